"""What the oracles make of a published answer."""

from __future__ import annotations

import functools
import hmac

from tests import vectors
from tests.afalg import authenc_key
from tests.vectors import AeadVector, HashVector, RngVector, SkcipherVector, packages
from tests.vectors.readers import Refusal

Vector = HashVector | SkcipherVector | AeadVector | RngVector

KEY, MESSAGE = bytes(range(32)), bytes(i * 89 % 251 for i in range(1000))


@functools.cache
def published() -> tuple[Vector, ...]:
    """Return the suite's own collections, without what is long."""
    found: tuple[Vector, ...] = (
        *vectors.hashes(all_files=True),
        *vectors.skciphers(all_files=True),
        *vectors.aeads(all_files=True),
        *vectors.rngs(),
    )
    return tuple(vector for vector in found if _size(vector) <= 600)


@functools.cache
def collected() -> tuple[Vector, ...]:
    """Return a sample of the big collections, without what is long."""
    found = (
        packages.answers(kind, name, everything=False) for kind in packages.SOURCES for name in packages.names(kind)
    )
    every = (answer for answers in found for answer in answers if not isinstance(answer, Refusal))
    # Of the long ones only those for which a library computes.
    return tuple(vector for vector in every if _size(vector) <= (7000 if isinstance(vector, HashVector) else 600))


def _size(vector: Vector) -> int:
    if isinstance(vector, RngVector):
        return len(vector.entropy)
    return len(vector.message if isinstance(vector, HashVector) else vector.plaintext)


def differences(vector: Vector) -> list[tuple[bytes, bytes]]:
    """Return pairs of what an oracle gives and what was published, those that differ."""
    # Mutants of the oracles are imported in their place (mutants.py): not before they are needed.
    from tests.oracle import aeads, drbg, hashes, skciphers, x931

    match vector:
        case HashVector(name=name):
            pairs = [(hashes.digest(name, vector.message, vector.key), vector.digest)]
        case SkcipherVector(name=name, key=key, iv=iv):
            pairs = [
                (skciphers.crypt(name, key, iv, vector.plaintext), vector.ciphertext),
                (skciphers.crypt(name, key, iv, vector.ciphertext, decrypt=True), vector.plaintext),
            ]
        case AeadVector(name=name, key=key, iv=iv):
            sealed = aeads.seal(name, key, iv, vector.aad, vector.plaintext, len(vector.tag))
            pairs = [(sealed, vector.ciphertext + vector.tag)]
        case RngVector(name="ansi_cprng"):
            output = x931.generate(vector.entropy, vector.skip + len(vector.expected))
            pairs = [(output[vector.skip :], vector.expected)]
        case RngVector():
            generator, got = drbg.Drbg(vector.name, vector.entropy, vector.personalization), b""
            for entropy, additional in zip(vector.reseeds, vector.additional, strict=True):
                generator.entropy = entropy
                got = generator.generate(len(vector.expected), additional)
            pairs = [(got, vector.expected)]
    return [pair for pair in pairs if pair[0] != pair[1]]


def disagreements() -> list[str]:
    """Return what differs from another library, of own code for which nobody published answers.

    Own GCM and CCM serve the ciphers that no library runs in these modes. Of authencesn: what is authenticated ends
    with the high half of the sequence number, which is not sent (RFC 4303 2.2.1); the AAD has it in the middle.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

    from tests.oracle import aeads, blocks

    block, wrong = blocks.cipher("aes", KEY), []
    for size, aad in ((0, 0), (1, 14), (16, 20), (100, 1), (100, 0xFEFF), (33, 0xFF00)):
        message, header, nonce = MESSAGE[:size], bytes(aad), MESSAGE[:12]
        for tag in (8, 16):
            expected = AESCCM(KEY, tag).encrypt(nonce, message, header)
            if aeads.ccm_over(block, b"\2" + nonce + bytes(3), header, message, tag) != expected:
                wrong.append(f"CCM of {size} bytes with AAD of {aad}")
        if aeads.gcm_over(block, nonce, header, message, 16) != AESGCM(KEY).encrypt(nonce, message, header):
            wrong.append(f"GCM of {size} bytes with AAD of {aad}")
    for aad in (8, 12, 24):
        header, iv, key = MESSAGE[:aad], MESSAGE[16:32], b"authentication key"
        ciphertext = Cipher(algorithms.AES(KEY), modes.CBC(iv)).encryptor().update(MESSAGE[:64])
        tag_of = header[:4] + header[8:] + ciphertext + header[4:8]
        expected = ciphertext + hmac.digest(key, tag_of, "sha256")
        blob = authenc_key(key, KEY)
        if aeads.seal("authencesn(hmac(sha256),cbc(aes))", blob, iv, header, MESSAGE[:64], 32) != expected:
            wrong.append(f"authencesn with AAD of {aad}")
    return wrong
