"""The generated part of the skip budget."""

from __future__ import annotations

import re

from tests.algorithms import catalogue, skips
from tests.algorithms.catalogue.symbols import GONE, symbols


def test_skip_budget_is_up_to_date() -> None:
    """When this fails, run ``python -m tests.algorithms.skips``."""
    text = skips.BUDGET.read_text()
    assert text == skips.written(text)


def test_every_row_says_which_options_it_needs() -> None:
    for rows in catalogue.by_type().values():
        for name in rows:
            assert name in GONE or all(re.fullmatch(r"CRYPTO_[A-Z0-9_|]+", symbol) for symbol in symbols(name))


def test_options_of_a_nested_name_are_those_of_its_parts() -> None:
    needed = symbols("authenc(hmac(sha1),rfc3686(ctr(aes)))")
    assert needed == ("CRYPTO_AES", "CRYPTO_AUTHENC", "CRYPTO_CTR", "CRYPTO_HMAC", "CRYPTO_SHA1")
