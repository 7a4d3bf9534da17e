"""Every aead AF_ALG may offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class AeadRow:
    """One aead.

    Attributes:
        iv: bytes of IV.
        keys: key lengths that are exercised; of the cipher's part when ``authkey`` is not None.
        authkey: length of the authentication key, for templates whose key is authenc's blob; else None.
        tags: tag sizes that are exercised, ascending: all of a short range, both ends and some of a long one.
        refused_tags: tag sizes that must be EINVAL.
        aads: lengths of AAD that are accepted, out of those worth trying; None for any length.
        refused_aads: lengths that must be EINVAL.
        unit: plaintext has a whole number of so many bytes.
        minimum: of plaintext, in bytes.
        iv_in_aad: the AAD ends with the IV.
        generates_iv_for: the aead inside a template that makes its own IV and puts it before the ciphertext.
    """

    name: str
    iv: int
    keys: tuple[int, ...]
    tags: tuple[int, ...]
    refused_tags: tuple[int, ...]
    authkey: int | None = None
    aads: tuple[int, ...] | None = None
    refused_aads: tuple[int, ...] = ()
    unit: int = 1
    minimum: int = 0
    iv_in_aad: bool = False
    generates_iv_for: str | None = None

    @property
    def checks_first(self) -> bool:
        """Whether the tag, over the ciphertext, is looked at before anything is deciphered."""
        return self.name.startswith(("authenc", "essiv"))

    @property
    def every_tag(self) -> tuple[int, ...]:
        """Every tag size that is accepted: of authenc a long range."""
        if not self.name.startswith("authenc"):
            return self.tags
        return tuple(range(self.tags[0], self.tags[-1] + 1))


def rows() -> Iterator[AeadRow]:
    """Yield every row."""
    for cipher, keys in (("aes", _AES), ("camellia", _AES), ("aria", _AES), ("sm4", (16,))):
        yield AeadRow(f"gcm({cipher})", 12, keys, (4, 8, 12, 13, 14, 15, 16), (0, 3, 5, 11, 17))
        yield AeadRow(f"ccm({cipher})", 16, keys, (4, 6, 8, 10, 12, 14, 16), (0, 2, 5, 15, 17))
    salted = tuple(length + 4 for length in _AES)
    esp = {"aads": (16, 20), "refused_aads": (0, 8, 15, 17, 21), "iv_in_aad": True}
    yield AeadRow("rfc4106(gcm(aes))", 8, salted, (8, 12, 16), (4, 13, 17), **esp)  # type: ignore[arg-type]
    yield AeadRow("rfc4543(gcm(aes))", 8, salted, (16,), (8, 12, 17), **esp)  # type: ignore[arg-type]
    ccm_salted = tuple(length + 3 for length in _AES)
    yield AeadRow("rfc4309(ccm(aes))", 8, ccm_salted, (8, 12, 16), (4, 10, 17), **esp)  # type: ignore[arg-type]
    yield AeadRow("rfc7539(chacha20,poly1305)", 12, (32,), (16,), (0, 12, 15, 17))
    yield AeadRow(
        "rfc7539esp(chacha20,poly1305)",
        8,
        (36,),
        (16,),
        (0, 12, 17),
        aads=(8, 12, 16, 20),
        refused_aads=(0, 7),
        iv_in_aad=True,
    )
    yield AeadRow("aegis128", 16, (16,), (8, 12, 16), (7, 17))
    yield from _authenc_rows()
    yield from _generators()


def _generators() -> Iterator[AeadRow]:
    """Yield templates that make the IV themselves: their payload begins with room for it."""
    salted = tuple(length + 4 for length in _AES)
    inner = "rfc4106(gcm(aes))"
    yield AeadRow(f"seqiv({inner})", 8, salted, (8, 12, 16), (4, 13, 17), aads=(8, 12), generates_iv_for=inner)
    inner = "rfc7539esp(chacha20,poly1305)"
    yield AeadRow(f"seqiv({inner})", 8, (36,), (16,), (12, 17), aads=(0, 8, 12), generates_iv_for=inner)
    for mac, authkey, digest in _MACS:
        for cipher, iv, keys, unit in _CIPHERS[:3]:
            inner = f"authenc({mac},{cipher})"
            yield AeadRow(
                f"echainiv({inner})",
                iv,
                keys,
                (digest,),
                (0, digest + 1),
                authkey=authkey,
                aads=(0, 8, 24),
                unit=unit,
                generates_iv_for=inner,
            )


def _authenc_rows() -> Iterator[AeadRow]:
    for mac, authkey, digest in _MACS:
        for cipher, iv, keys, unit in _CIPHERS:
            tags = tuple(sorted({1, 4, digest // 2, digest}))
            yield AeadRow(f"authenc({mac},{cipher})", iv, keys, tags, (0, digest + 1), authkey=authkey, unit=unit)
    for mac, authkey, digest in (("hmac(sha1)", 20, 20), ("hmac(sha256)", 32, 32)):
        tags = tuple(sorted({4, digest // 2, digest}))
        yield AeadRow(
            f"authencesn({mac},cbc(aes))",
            16,
            _AES,
            tags,
            (0, 1, 3, digest + 1),
            authkey=authkey,
            aads=(8, 12, 24),
            refused_aads=(0, 7),
            unit=16,
        )
    name = "essiv(authenc(hmac(sha256),cbc(aes)),sha256)"
    # The template wants at least an IV's worth of AAD (CVE-2025-40019).
    yield AeadRow(
        name,
        16,
        _AES,
        (16, 32),
        (0, 33),
        authkey=32,
        aads=(16, 24, 32),
        refused_aads=(0, 15),
        unit=16,
    )
    yield AeadRow("krb5enc(hmac(sha256),cts(cbc(aes)))", 16, _AES, (16, 32), (0, 33), authkey=32, minimum=16)
    name = "krb5enc(cmac(camellia),cts(cbc(camellia)))"
    yield AeadRow(name, 16, (16, 32), (16,), (0, 17), authkey=16, minimum=16)


_AES = (16, 24, 32)

_MACS = (
    ("hmac(md5)", 16, 16),
    ("hmac(sha1)", 20, 20),
    ("hmac(sha224)", 28, 28),
    ("hmac(sha256)", 32, 32),
    ("hmac(sha384)", 48, 48),
    ("hmac(sha512)", 64, 64),
)

# name, IV, key lengths, unit
_CIPHERS = (
    ("cbc(aes)", 16, _AES, 16),
    ("cbc(des)", 8, (8,), 8),
    ("cbc(des3_ede)", 8, (24,), 8),
    ("rfc3686(ctr(aes))", 8, (20, 28, 36), 1),
    ("ecb(cipher_null)", 0, (0,), 1),
)
