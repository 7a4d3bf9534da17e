"""What the probes say, by which tests know what to expect, is what a kernel of this version should say.

Expectations follow the kernel's answers, so that without this one which changed would go unnoticed: the known answers
stand in tests/answers.toml, with the commits that changed them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests import answers
from tests.afalg import Aead
from tests.errors import probes
from tests.need import need, need_key
from tests.requests.traits import traits

Record = Callable[[str, object], None]

PROBES: dict[str, Callable[[], bool]] = {
    "passes_on_template_errors": probes.passes_on_template_errors,
    "ignores_lookup_flags": probes.ignores_lookup_flags,
    "splice_begins_a_request": probes.splice_begins_a_request,
    "splices_by_reference": probes.splices_by_reference,
}


def told(record_property: Record, question: str, yes: bool) -> None:
    """Keep an answer for the results, and compare it with that of this version."""
    answer = "yes" if yes else "no"
    record_property("answer", answer)
    answers.check(question, answer)


@pytest.mark.parametrize("name", PROBES)
def test_probe_answers_as_its_version_should(name: str, record_property: Record) -> None:
    """A probe's answer is what tests/answers.toml says of this version, with the commit that changed it."""
    told(record_property, name, PROBES[name]())


def test_key_serials_are_there_where_they_should_be(record_property: Record) -> None:
    """Without keyrings (CONFIG_KEYS) no version has them."""
    with need_key("user", "af-alg-answers", b"payload"):
        pass
    told(record_property, "has_key_serials", probes.has_key_serials())


@pytest.mark.parametrize("name", ["splice_begins", "short_recv_is_refused", "short_open_keeps", "aead_iv_goes_on"])
def test_trait_is_that_of_its_version(name: str, record_property: Record) -> None:
    """A trait that models rely on is what tests/answers.toml says of this version, with the commit that changed it."""
    if name == "aead_iv_goes_on":
        need(Aead, "authenc(hmac(sha256),cbc(aes))").close()
    told(record_property, f"traits: {name}", dataclasses.asdict(traits())[name])
