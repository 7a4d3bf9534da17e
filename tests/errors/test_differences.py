"""What differs between kernels: each test asks one thing, and says which of the answers that are known it got.

`make differences` asks a row of kernels and writes the README's table (tests/errors/differences.py). The first line
of a docstring is the table's first column. An answer that nobody has seen yet is a failure.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from tests import answers
from tests.afalg import Aead, Skcipher, Socket, authenc_key, set_assoclen, set_iv, set_op
from tests.afalg import constants as c
from tests.afalg.aio import IOCB_CMD_PREAD, Iocb
from tests.afalg.buffers import pages_of
from tests.afalg.memory import PAGE, PROT_NONE, Memory
from tests.doctor.absence import fips_mode
from tests.errors import probes
from tests.errors.raises import name_of, outcome
from tests.errors.subjects import AEAD, HASH, SKCIPHER
from tests.errors.threads import wait_until_inside_a_call
from tests.need import need, need_aio
from tests.requests.test_aio import ahead_of_kernel_threads

Says = Callable[..., None]
SO_ZEROCOPY, SO_PASSCRED, SO_RCVBUF = 60, 16, 8


@pytest.fixture
def says(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Says:
    """Give a function that takes the answer, and all that are known; one of another version's fails."""

    def record(answer: str, *known: str) -> None:
        assert answer in known, f"an answer nobody knows of: {answer}; known are {', '.join(known)}"
        record_property("answer", answer)
        answers.check(request.node.originalname, answer)

    return record


def error_of(call: Callable[[], object]) -> str:
    return name_of(outcome(call))


def test_template_that_refuses_its_parameters(says: Says) -> None:
    """bind to a template that refuses its parameters (type `hash`, name `cbc(aes)`)"""
    says(error_of(lambda: Socket.bound("hash", "cbc(aes)").close()), "ENOENT", "EINVAL")


def test_template_in_itself(says: Says) -> None:
    """bind to a mode of a mode (`cbc(ecb(aes))`)"""
    says(error_of(lambda: Socket.bound("skcipher", "cbc(ecb(aes))").close()), "ENOENT", "ELOOP")


def test_flags_of_the_address(says: Says) -> None:
    """bind with CRYPTO_ALG_KERN_DRIVER_ONLY in `salg_feat` and `salg_mask`"""
    flag = c.CRYPTO_ALG_KERN_DRIVER_ONLY
    got = error_of(lambda: Socket.bound("hash", "sha256", flag, flag).close())
    says({"success": "ignored", "ENOENT": "asks for hardware: ENOENT"}[got], "ignored", "asks for hardware: ENOENT")


def test_restriction(says: Says) -> None:
    """sysctl `crypto.af_alg_restrict`, which hides most algorithms by default"""
    Socket.create().close()
    says("yes" if probes.RESTRICT.exists() else "no", "yes", "no")


def test_key_serials(says: Says) -> None:
    """keys by serial number (ALG_SET_KEY_BY_KEY_SERIAL)"""
    says("yes" if probes.has_key_serials() else "ENOPROTOOPT", "yes", "ENOPROTOOPT")


def test_option_memory(says: Says) -> None:
    """`net.core.optmem_max`: keys and requests of one socket, bytes"""
    says(str(probes.optmem_max()), "20480", "131072")


def test_zerocopy_option(says: Says) -> None:
    """setsockopt SO_ZEROCOPY"""
    with Socket.create() as sock:
        got = error_of(lambda: sock.setsockopt(SO_ZEROCOPY, b"\1\0\0\0", level=c.SOL_SOCKET))
    says(got, "ENOTSUPP", "EOPNOTSUPP")


def test_passcred_option(says: Says) -> None:
    """setsockopt SO_PASSCRED"""
    with Socket.create() as sock:
        got = error_of(lambda: sock.setsockopt(SO_PASSCRED, b"\1\0\0\0", level=c.SOL_SOCKET))
    says(got, "success", "EOPNOTSUPP")


def test_digest_after_a_failed_send(says: Says) -> None:
    """recv from a hash whose last send failed (EFAULT)"""
    with HASH.open() as h, Memory(0, PROT_NONE) as memory:
        h.op.send(HASH.message)
        assert outcome(lambda: h.op.send(memory.pointer(0, 3))) == errno.EFAULT
        stale = h.op.recv(32) == HASH.result
    says("the digest before" if stale else "digest of nothing", "the digest before", "digest of nothing")


def test_hash_of_half_a_message(says: Says) -> None:
    """send to a hash, the second of two buffers unreadable"""
    with HASH.open() as h, Memory(1, PROT_NONE) as memory:
        parts = [memory.pointer(0, 100), memory.pointer(PAGE, 100)]
        counts: list[int] = []
        error = outcome(lambda: counts.append(h.op.sendmsg(parts)))
    says(f"{counts[0]} of 200 bytes" if counts else name_of(error), "100 of 200 bytes", "EFAULT")


def test_room_for_less_than_a_block(says: Says) -> None:
    """recv of less than a block from a skcipher that has more"""
    with SKCIPHER.open() as cipher:
        SKCIPHER.begin(cipher.op)
        got: list[bytes] = []
        error = outcome(lambda: got.append(cipher.op.recv(10)))
    says("0 bytes" if got == [b""] else name_of(error), "0 bytes", "EINVAL")


def test_asynchronous_implementation(says: Says) -> None:
    """io_submit(2) of a read, by an asynchronous implementation (here `cryptd(ctr(aes-generic))`)"""
    name, known = "cryptd(ctr(aes-generic))", ("is done later", "is done at once", "bind: ENOENT")
    if error := outcome(lambda: Socket.bound("skcipher", name).close()):
        says(f"bind: {name_of(error)}", *known)
        return
    with Skcipher(name, bytes(16)) as cipher, need_aio() as context:
        cipher.op.sendmsg([bytes(16)], set_op(c.ALG_OP_ENCRYPT) + set_iv(bytes(16)))
        with ahead_of_kernel_threads():
            context.submit([Iocb(cipher.op.fd, IOCB_CMD_PREAD, bytearray(16))])
            done = len(context.events(0, 1))
        if not done:
            context.events(1, 1)
    says("is done at once" if done else "is done later", *known)


def test_pages_of_a_pipe(says: Says) -> None:
    """splice into a skcipher or aead, pages changed before the recv"""
    answers = {False: "copied by splice: old data", True: "by reference: new data"}
    says(answers[probes.splices_by_reference()], *answers.values())


def test_splice_alone(says: Says) -> None:
    """splice into a skcipher without a sendmsg before it"""
    answers = {True: "is a request", False: "recv: EAGAIN"}
    says(answers[probes.splice_begins_a_request()], *answers.values())


def test_two_writers(says: Says) -> None:
    """send while another thread waits in a send of the same socket"""
    with SKCIPHER.open() as cipher:
        op = cipher.op
        op.sendmsg([b""], SKCIPHER.control, c.MSG_MORE)
        room = pages_of(op, c.SO_SNDBUF)
        writer = threading.Thread(target=lambda: outcome(lambda: op.send(bytes(room + PAGE))))
        writer.start()
        wait_until_inside_a_call(writer, op)
        got = error_of(lambda: op.send(b"x", c.MSG_MORE | c.MSG_DONTWAIT))
        op.recv(room)
        writer.join()
    says(got, "EBUSY", "EAGAIN")


def test_aad_of_2_gib(says: Says) -> None:
    """send with an AAD length of 2 GiB"""
    with AEAD.open() as aead:
        control = set_op(c.ALG_OP_ENCRYPT) + set_iv(bytes(12)) + set_assoclen(1 << 31)
        got = error_of(lambda: aead.op.sendmsg([b"x"], control))
    says("taken, recv: EINVAL" if got == "success" else got, "taken, recv: EINVAL", "EINVAL")


def test_message_beyond_the_receive_buffer(says: Says) -> None:
    """aead result longer than SO_RCVBUF (5016 bytes, buffer of 1 page)"""
    with AEAD.open() as aead:
        aead.op.setsockopt(SO_RCVBUF, b"\1\0\0\0", level=c.SOL_SOCKET)
        control = set_op(c.ALG_OP_ENCRYPT) + set_iv(bytes(12)) + set_assoclen(0)
        aead.op.sendmsg([bytes(5000)], control)
        size = len(aead.op.recv(6000, c.MSG_DONTWAIT))
    answers = {5016: "one message", 5032: "two, with a tag each"}
    says(answers.get(size, f"{size} bytes"), *answers.values())


def test_chained_iv_of_an_aead(says: Says) -> None:
    """IV of an aead's second request without one (`authenc`)"""
    key = authenc_key(bytes(20), bytes(16))
    with need(Aead, "authenc(hmac(sha1),cbc(aes))", key, 20) as aead:
        first = aead.encrypt(bytes(16), b"", bytes(16))
        aead.op.sendmsg([bytes(16)], set_op(c.ALG_OP_ENCRYPT) + set_assoclen(0))
        same = aead.op.recv(36) == first
    says("as given" if same else "goes on", "as given", "goes on")


def test_too_little_aad_for_esn(says: Says) -> None:
    """`authencesn` with fewer than 8 bytes of AAD"""
    key = authenc_key(bytes(20), bytes(16))
    with need(Aead, "authencesn(hmac(sha1),cbc(aes))", key, 20) as aead:
        got = error_of(lambda: aead.encrypt(bytes(16), bytes(4), bytes(16)))
    says(got, "success", "EINVAL")


def test_poly1305(says: Says) -> None:
    """hash `poly1305`

    CONFIG_CRYPTO_POLY1305 (crypto/Kconfig of Linux 6.12); newer kernels have it as a library for rfc7539 alone.
    """
    says(presence("hash", "poly1305"), "yes", "ENOENT")


def test_vmac(says: Says) -> None:
    """hash `vmac64(aes)`

    CONFIG_CRYPTO_VMAC (crypto/vmac.c), where the kernel still has it and the distribution builds it.
    """
    says(presence("hash", "vmac64(aes)"), "yes", "ENOENT")


def test_key_wrap(says: Says) -> None:
    """skcipher `kw(aes)`

    CONFIG_CRYPTO_KEYWRAP (crypto/keywrap.c; NIST SP 800-38F), where the kernel still has it.
    """
    says(presence("skcipher", "kw(aes)"), "yes", "ENOENT")


def test_default_generator(says: Says) -> None:
    """rng `stdrng`, which is a DRBG"""
    says(presence("rng", "stdrng"), "yes", "ENOENT")


def test_ansi_generator(says: Says) -> None:
    """rng `ansi_cprng`

    CONFIG_CRYPTO_ANSI_CPRNG (crypto/ansi_cprng.c), where the kernel still has it.
    """
    # In FIPS mode it is there, and has failed its self-test.
    says(presence("rng", "ansi_cprng"), "yes", "ENOENT", *["ELIBBAD"] * fips_mode())


def presence(type_: str, name: str) -> str:
    got = error_of(lambda: Socket.bound(type_, name).close())
    return "yes" if got == "success" else got
