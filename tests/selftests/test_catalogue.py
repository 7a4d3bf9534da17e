"""The discovery table, its names, and /proc/crypto."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.afalg.proc import implementations
from tests.algorithms import catalogue
from tests.algorithms.cases import only_combines
from tests.algorithms.test_completeness import known
from tests.oracle.names import parse

PROC_CRYPTO = """\
name         : cbc(aes)
driver       : cbc-aes-aesni
module       : aesni_intel
priority     : 400
refcnt       : 1
selftest     : passed
internal     : no
type         : skcipher
async        : yes
blocksize    : 16
min keysize  : 16
max keysize  : 32
ivsize       : 16
chunksize    : 16
walksize     : 16

name         : __cbc(aes)
driver       : __cbc-aes-aesni
module       : aesni_intel
priority     : 400
refcnt       : 1
selftest     : unknown
internal     : yes
type         : skcipher

name         : crc32
driver       : crc32-lib
module       : kernel
priority     : 100
refcnt       : 1
selftest     : passed
internal     : no
type         : shash
blocksize    : 1
digestsize   : 4

"""


def test_proc_crypto_is_read() -> None:
    cbc, internal, crc = implementations(PROC_CRYPTO)
    assert (cbc.name, cbc.driver, cbc.priority, cbc.selftest) == ("cbc(aes)", "cbc-aes-aesni", 400, "passed")
    assert (cbc.af_alg_type, cbc.asynchronous, cbc.fields["ivsize"]) == ("skcipher", True, "16")
    assert (internal.af_alg_type, internal.selftest) == (None, "unknown")
    assert (crc.af_alg_type, crc.asynchronous) == ("hash", False)


@pytest.mark.parametrize("type_", ["hash", "skcipher", "aead", "rng"])
def test_no_name_has_two_rows(type_: str) -> None:
    names = {
        "hash": [row.name for row in catalogue.HASHES],
        "skcipher": [row.name for row in catalogue.SKCIPHERS],
        "aead": [row.name for row in catalogue.AEADS],
        "rng": [row.name for row in catalogue.RNGS],
    }[type_]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_names_are_taken_apart() -> None:
    name = parse("authenc(hmac(sha256),rfc3686(ctr(aes)))")
    assert (name.head, [part.text for part in name.parts]) == ("authenc", ["hmac(sha256)", "rfc3686(ctr(aes))"])
    assert name.parts[1].parts[0].parts[0].head == "aes"
    for wrong in ("", "cbc(aes", "cbc(aes)x", "a,b", "aes)"):
        with pytest.raises(ValueError, match="not an algorithm name"):
            parse(wrong)


@pytest.mark.parametrize(
    ("type_", "name", "expected"),
    [
        ("hash", "sha256", True),
        ("skcipher", "cbc(aes)", True),
        ("aead", "authencesn(hmac(sha512),cbc(serpent))", True),
        ("skcipher", "sha256", False),
        ("hash", "sha4", False),
        ("skcipher", "cbc(newcipher)", False),
        ("skcipher", "newmode(aes)", False),
    ],
)
def test_what_the_catalogue_knows(type_: str, name: str, expected: bool) -> None:
    assert known(type_, name) is expected


@pytest.mark.parametrize("type_", ["hash", "skcipher", "aead", "rng"])
def test_every_template_has_a_row_whose_every_way_a_default_run_tests(type_: str) -> None:
    names = [parse(name) for name in catalogue.by_type()[type_]]
    assert {name.head for name in names if not only_combines(name)} == {name.head for name in names}


def test_what_only_combines_parts() -> None:
    left = [name for rows in catalogue.by_type().values() for name in rows if only_combines(parse(name))]
    assert {"cbc(tea)", "cmac(xtea)", "authenc(hmac(md5),cbc(des))", "echainiv(authenc(hmac(md5),cbc(des)))"} <= {*left}
    assert not {"cbc(aes)", "cbc(camellia)", "authenc(hmac(sha1),cbc(des))", "hmac(md5)", "gcm(aes)"} & {*left}
