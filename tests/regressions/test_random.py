"""What fuzzers try, with fixed seeds: names of algorithms and control data nobody would write by hand.

Each of these has found its bugs elsewhere. The seeds make a failure come back; more of them come with --thorough.
"""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from tests.afalg import Socket
from tests.afalg.constants import MSG_DONTWAIT
from tests.algorithms.modules import no_autoload
from tests.errors.raises import outcome
from tests.errors.subjects import AEAD, HASH, SKCIPHER, Subject

# fmt: off
TEMPLATES = [
    "adiantum", "authenc", "authencesn", "cbc", "cbcmac", "ccm", "chacha", "cmac", "cryptd", "ctr", "cts", "ecb",
    "echainiv", "essiv", "gcm", "gcm_base", "hctr2", "hmac", "lrw", "pcrypt", "rfc3686", "rfc4106", "rfc4309",
    "rfc4543", "rfc7539", "rfc7539esp", "seqiv", "simd", "xcbc", "xctr", "xts",
]
LEAVES = [
    "aes", "aes-generic", "camellia", "chacha20", "cipher_null", "compress_null", "crc32c", "des3_ede", "digest_null",
    "ecb(aes)", "ghash", "hmac(sha256)", "nothing", "poly1305", "sha1", "sha256", "sha256-generic", "stdrng",
    "xchacha20", "deflate", "rsa", "", "(", ")", ",", "a" * 70, "%s", "../sha256", "sha256\xff",
]
# fmt: on
# EEXIST: an instance of cryptd is found by the name of what is in it, not by its own, so it is made again
# when it is asked for again, and collides with itself.
REFUSED = (errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST)
# Names of sockets' types, and others that the crypto API knows.
TYPES = ["hash", "skcipher", "aead", "rng", "cipher", "akcipher", "compress", "", "hashhashhashha"]


def random_name(chance: random.Random, depth: int) -> str:
    """Return a name of templates within templates, mostly nonsense."""
    if depth == 0 or chance.random() < 0.2:
        return chance.choice(LEAVES)
    inside = [random_name(chance, depth - 1) for _ in range(chance.choice([1, 1, 1, 2, 2, 3]))]
    return f"{chance.choice(TEMPLATES)}({','.join(inside)}{chance.choice([')'] * 8 + ['', '))'])}"


@pytest.mark.deadline(60)
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(n, marks=pytest.mark.thorough) for n in range(4, 20))])
def test_random_names_are_bound_or_refused(seed: int) -> None:
    """Whatever is made of them has passed its self-test, and all else is as it was (cryptomgr_schedule_probe).

    Modules stay out: each name that is none would have modprobe run six times.
    """
    chance = random.Random(seed)
    for subject in (HASH, SKCIPHER, AEAD):
        subject.open().close()
    with no_autoload():
        for _ in range(100):
            type_ = chance.choice(TYPES[:4] * 3 + TYPES)
            name = random_name(chance, chance.choice([1, 2, 2, 3]))
            with Socket.create() as tfm:
                address = bytes([38, 0]) + type_.encode().ljust(14, b"\0")[:14] + bytes(8) + name.encode() + b"\0"
                answer = outcome(lambda address=address: tfm.bind_raw(address.ljust(88, b"\0")))
            assert answer in REFUSED or not answer, f"{type_} {name!r}: {answer}"
            assert answer or type_ in ("hash", "skcipher", "aead", "rng"), f"there is no type {type_!r}"
    failed = [entry for entry in Path("/proc/crypto").read_text().split("\n\n") if "selftest     : failed" in entry]
    assert failed == []
    for subject in (HASH, SKCIPHER, AEAD):
        with subject.open() as transform:
            subject.works(transform.op)


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(n, marks=pytest.mark.thorough) for n in range(4, 20))])
@pytest.mark.parametrize("subject", [HASH, SKCIPHER, AEAD], ids=lambda subject: subject.type_)
def test_damaged_control_data_is_taken_or_refused(subject: Subject, seed: int) -> None:
    """Bytes changed, cut off, repeated: EINVAL or a message, and the next socket of the tfm knows nothing of it.

    Source: af_alg_cmsg_send.
    """
    chance = random.Random(seed)
    with subject.open() as transform:
        for _ in range(60):
            control = bytearray(subject.control or bytes(range(48)))
            for _ in range(chance.choice([1, 1, 2, 8])):
                control[chance.randrange(len(control))] = chance.choice([0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF])
            damaged = bytes(control[: chance.choice([len(control)] * 3 + [chance.randrange(len(control))])])
            with transform.tfm.accept() as op:
                sent = outcome(lambda op=op, damaged=damaged: op.sendmsg([subject.message], damaged, MSG_DONTWAIT))
                assert sent in (0, errno.EINVAL), damaged.hex()
                read = outcome(lambda op=op: op.recv(256, MSG_DONTWAIT))
                assert read in (0, errno.EINVAL, errno.EAGAIN, errno.EBADMSG), damaged.hex()
        with transform.tfm.accept() as op:
            subject.works(op)
