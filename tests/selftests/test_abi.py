"""The binding's bytes, against the layouts of the kernel's headers written out by hand."""

from __future__ import annotations

import struct
import sys

import pytest

from tests.afalg import authenc_key, cmsg, set_assoclen, set_iv, set_op, sockaddr_alg

little = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are written out in little-endian order")


@little
def test_address_has_88_bytes_and_its_fields_in_place() -> None:
    address = sockaddr_alg("hash", "sha256", 1, 0x1000)
    assert len(address) == 88
    assert address[:2] == b"\x26\x00"
    assert address[2:16] == b"hash" + bytes(10)
    assert address[16:24] == b"\x01\0\0\0" + b"\x00\x10\0\0"
    assert address[24:] == b"sha256" + bytes(58)


@pytest.mark.parametrize("length", [63, 64, 103, 200])
def test_long_name_ends_with_its_nul(length: int) -> None:
    address = sockaddr_alg("hash", "x" * length)
    assert len(address) == 24 + length + 1
    assert address[24:] == b"x" * length + b"\0"


@little
def test_control_messages() -> None:
    assert set_op(1) == b"\x14" + bytes(7) + b"\x17\x01\0\0" + b"\x03\0\0\0" + b"\x01\0\0\0" + bytes(4)
    assert set_assoclen(20)[12:20] == b"\x04\0\0\0" + b"\x14\0\0\0"
    iv = set_iv(b"12345678")
    assert (iv[0], iv[12:]) == (16 + 4 + 8, b"\x02\0\0\0" + b"\x08\0\0\0" + b"12345678" + bytes(4))


def test_control_message_can_lie_about_its_length() -> None:
    assert struct.unpack("@N", cmsg(279, 3, b"1234", length=7)[:8]) == (7,)


@little
def test_key_of_authenc_is_an_attribute_and_two_keys() -> None:
    assert authenc_key(b"AUTH", b"CIPHER") == b"\x08\0\x01\0" + b"\0\0\0\x06" + b"AUTHCIPHER"
