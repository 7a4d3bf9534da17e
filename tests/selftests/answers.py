"""What the oracles make of a published answer."""

from __future__ import annotations

from tests.vectors import AeadVector, HashVector, RngVector, SkcipherVector

Vector = HashVector | SkcipherVector | AeadVector | RngVector


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
