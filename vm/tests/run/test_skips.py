"""The skip budget."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.run import skips

BUDGET = """
[[skip]]
reason = "kernel has no rng ansi_cprng"
because = "an option"
config = ["CRYPTO_ANSI_CPRNG"]

[[skip]]
reason = "kernel has no hash md[45]"
because = "anybody may lack it"
"""


@pytest.fixture
def rules(tmp_path: Path) -> list[skips.Rule]:
    path = tmp_path / "skips.toml"
    path.write_text(BUDGET)
    return skips.load(path)


@pytest.mark.parametrize(
    ("reason", "config", "objection"),
    [
        ("kernel has no rng ansi_cprng", {}, None),
        ("kernel has no rng ansi_cprng", None, None),
        ("kernel has no rng ansi_cprng", {"CRYPTO_ANSI_CPRNG": "m"}, "CONFIG_CRYPTO_ANSI_CPRNG=m"),
        ("kernel has no hash md5", {}, None),
        ("kernel has no hash md56", {}, "no entry"),
        ("because I say so", {}, "no entry"),
    ],
    ids=["unset", "unknown", "set", "always", "whole-reason", "unexpected"],
)
def test_objection(rules: list[skips.Rule], reason: str, config: dict[str, str] | None, objection: str | None) -> None:
    found = skips.objection(reason, rules, config)
    assert (found is None) if objection is None else (found is not None and objection in found)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_config_is_read(tmp_path: Path, compressed: bool) -> None:
    text = b'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x"\n'
    path = tmp_path / "config"
    path.write_bytes(gzip.compress(text) if compressed else text)
    assert skips.read_config(path) == {"A": "y", "C": '"x"'}


@pytest.mark.parametrize(
    "text",
    ["[[skip]]\nreason = 'x'\n", "[[skip]]\nreason = '('\nbecause = 'y'\n", "[[skip]]\nbecause = 'y'\n", "[["],
    ids=["no-because", "bad-pattern", "no-reason", "no-toml"],
)
def test_bad_budget_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "skips.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match="skip budget"):
        skips.load(path)
