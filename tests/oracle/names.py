"""The kernel's algorithm names: templates in parentheses, nested."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """``authenc(hmac(sha256),cbc(aes))`` taken apart: a template, or plain name, and its parameters."""

    text: str
    head: str
    parts: tuple[Name, ...] = ()

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Name:
    """Return the name taken apart.

    Raises:
        ValueError: the parentheses do not match.
    """
    head, bracket, rest = text.partition("(")
    if not bracket:
        if ")" in text or "," in text or not text:
            raise ValueError(f"not an algorithm name: {text!r}")
        return Name(text, text)
    if not rest.endswith(")"):
        raise ValueError(f"not an algorithm name: {text!r}")
    return Name(text, head, tuple(parse(part) for part in _split(rest[:-1])))


def _split(text: str) -> list[str]:
    """Return the parameters between commas that are in no inner parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
