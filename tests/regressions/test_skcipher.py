"""Bugs of algif_skcipher, and of how af_alg keeps what was sent."""

from __future__ import annotations

import errno
import mmap
import os
import select
import threading

import pytest

from tests.afalg import Pipe, Pointer, Skcipher, set_iv, set_op, splice, vmsplice
from tests.afalg.buffers import set_receive_buffer, set_send_buffer
from tests.afalg.constants import ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.afalg.memory import PROT_NONE, Memory
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import skciphers
from tests.splice.files import tmpfs_file

KEY, IV = bytes(range(16)), bytes(16)
START = set_op(ALG_OP_ENCRYPT) + set_iv(IV)
PAGE, FULL_LIST = 4096, 126


def encrypted(name: str, data: bytes) -> bytes:
    return skciphers.crypt(name, KEY, IV, data)


@pytest.mark.fixed_by(
    "8eceab19eba9", "crypto: af_alg - limit RX SG extraction by receive buffer budget", cve="CVE-2026-31677"
)
def test_room_for_less_than_a_block_is_refused_and_costs_nothing() -> None:
    """It was rounded down to nothing, and 0 bytes look like the end of the data (_skcipher_recvmsg)."""
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        cipher.op.sendmsg([bytes(32)], START)
        with raises_errno(errno.EINVAL, why="room for half a block"):
            cipher.op.recv(8)
        assert cipher.op.recv(32) == encrypted("cbc(aes)", bytes(32))


@pytest.mark.fixed_by(
    "31d00156e50e", "crypto: af_alg - Fix page reassignment overflow in af_alg_pull_tsgl", cve="CVE-2026-43078"
)
@pytest.mark.deadline(60)
def test_a_result_that_ends_with_a_page_keeps_no_page() -> None:
    """With data left behind it, each such request took one reference too many: a page lost every time.

    What is free goes up and down by itself; a leak takes as much in each of several trials.
    Source: get_page in af_alg_pull_tsgl.
    """
    rounds, lost = 1000, []
    with need(Skcipher, "ctr(aes)", KEY) as cipher:
        expected = encrypted("ctr(aes)", bytes(2 * PAGE))
        for _ in range(5):
            before = free_bytes()
            for _ in range(rounds):
                cipher.op.sendmsg([bytes(2 * PAGE)], START)
                assert cipher.op.recv(PAGE) == expected[:PAGE]
                assert cipher.op.recv(PAGE) == expected[PAGE:]
            lost.append(before - free_bytes())
            if lost[-1] < rounds * PAGE / 2:
                return
    raise AssertionError(f"{rounds} requests each took {lost} bytes for good")


@pytest.mark.fixed_by(
    "1b34cbbf4f01", "crypto: af_alg - Disallow concurrent writes in af_alg_sendmsg", cve="CVE-2025-39964"
)
def test_a_second_writer_is_told_that_the_first_is_not_done() -> None:
    """While one send waits for room, another one mixed its data into it (ctx->write in af_alg_sendmsg)."""
    data = bytes(300 * 1024)
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        op = cipher.op
        op.sendmsg([bytes(16)], START, MSG_MORE)
        # More than the send buffer of 208 KiB: it waits until somebody receives.
        writer = threading.Thread(target=op.send, args=(data,))
        writer.start()
        try:
            # Full, so that the writer holds the socket's lock or waits; the next send gets the lock once it waits.
            poll_until_full(op.fileno())
            with raises_errno(errno.EBUSY, why="a second writer"):
                op.send(b"x", MSG_MORE | MSG_DONTWAIT)
        finally:
            got = op.recv(128 * 1024)
            writer.join()
        rest = op.recv(len(data) + 16 - len(got))
        assert got + rest == encrypted("cbc(aes)", bytes(16) + data)


@pytest.mark.fixed_by(
    "d0ca0df179c4", "crypto: af_alg - Fix incorrect boolean values in af_alg_ctx", cve="CVE-2025-40022"
)
def test_data_with_more_to_come_is_no_whole_request() -> None:
    """MSG_MORE was cut to one bit, the lowest: there was never more to come."""
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        cipher.op.sendmsg([bytes(8)], START, MSG_MORE)
        with raises_errno(errno.EAGAIN, why="half a block with more to come"):
            cipher.op.recv(16, MSG_DONTWAIT)
        cipher.op.send(bytes(8))
        assert cipher.op.recv(16) == encrypted("cbc(aes)", bytes(16))


@pytest.mark.fixed_by("aecb745eb91d", "crypto: af_alg - Remove zero-copy support from skcipher and aead")
def test_spliced_data_is_what_the_file_held_when_it_was_spliced() -> None:
    """Pages were kept by reference, and whoever changed the file until recv changed the message (af_alg_sendmsg)."""
    with need(Skcipher, "cbc(aes)", KEY) as cipher, tmpfs_file(b"A" * PAGE) as file, Pipe() as pipe:
        cipher.op.sendmsg([], START, MSG_MORE)
        assert splice(file, pipe.write_end, PAGE, offset_in=0) == PAGE
        assert splice(pipe.read_end, cipher.op, PAGE) == PAGE
        writable = os.open(f"/proc/self/fd/{file}", os.O_WRONLY)
        os.pwrite(writable, b"B" * PAGE, 0)
        os.close(writable)
        got = cipher.op.recv(PAGE)
        assert got != encrypted("cbc(aes)", b"B" * PAGE), "what the file held later was encrypted"
        assert got == encrypted("cbc(aes)", b"A" * PAGE)


@pytest.mark.parametrize("name", ["cbc(aes)", "ctr(aes)", "ecb(aes)"])
def test_the_result_may_go_where_the_spliced_message_is(name: str) -> None:
    """Pages by reference and the same pages to write to: the cipher works in place, as kernel users have it do.

    Source: af_alg_get_rsgl.
    """
    data, iv = bytes(i * 7 % 251 for i in range(3 * PAGE)), b"" if name == "ecb(aes)" else set_iv(IV)
    with need(Skcipher, name, KEY) as cipher, mmap.mmap(-1, len(data)) as memory, Pipe() as pipe:
        memory[:] = data
        with memoryview(memory) as view:
            cipher.op.sendmsg([], set_op(ALG_OP_ENCRYPT) + iv, MSG_MORE)
            assert vmsplice(pipe.write_end, [view]) == len(data)
            assert splice(pipe.read_end, cipher.op, len(data)) == len(data)
            assert cipher.op.recvmsg([view]).size == len(data)
        assert memory[:] == encrypted(name, data)


@pytest.mark.fixed_by("202736d99b7f", "crypto: algif_skcipher - sendmsg SG marking is off by one")
@pytest.mark.parametrize("first", [0, 1, 5])
@pytest.mark.parametrize("pages", [FULL_LIST - 1, FULL_LIST, FULL_LIST + 1])
def test_skcipher_message_around_a_full_tsgl(pages: int, first: int) -> None:
    """The entry behind the last one was marked as the end, and the one before it stayed marked when more came.

    Source: af_alg_alloc_tsgl, sg_unmark_end.
    """
    data = bytes(i * 7 % 251 for i in range(PAGE)) * pages
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        for set_buffer in (set_send_buffer, set_receive_buffer):
            set_buffer(cipher.op, 8 << 20, force=True)
        cipher.op.sendmsg([data[: first * PAGE]], START, MSG_MORE)
        cipher.op.send(data[first * PAGE :])
        assert cipher.op.recv(len(data)) == encrypted("cbc(aes)", data), "the ciphertext of a list of pages is wrong"


@pytest.mark.fixed_by("5b0fe9552336", "crypto: algif_skcipher - Use chunksize instead of blocksize")
@pytest.mark.parametrize("first", [17, 20, 31, 33])
def test_a_stream_cipher_stops_where_it_can_go_on(first: int) -> None:
    """In the middle of a block of key stream it lost the rest of that block: a recv ends with a whole one.

    Source: crypto_skcipher_chunksize.
    """
    data = bytes(range(64))
    with need(Skcipher, "ctr(aes)", KEY) as cipher:
        cipher.op.sendmsg([data], START)
        got = cipher.op.recv(first)
        whole = got + cipher.op.recv(len(data) - len(got))
        assert whole == encrypted("ctr(aes)", data), "the rest of a block of key stream was lost"


@pytest.mark.fixed_by("7cf81954705b", "crypto: algif_skcipher - Cap recv SG list at ctx->used")
def test_rsgl_of_a_huge_recv_buffer() -> None:
    """All of it was pinned beforehand, up to the receive buffer; a list of that size could not be had.

    Source: af_alg_get_rsgl.
    """
    with need(Skcipher, "cbc(aes)", KEY) as cipher, mmap.mmap(-1, 256 << 20) as memory:
        set_receive_buffer(cipher.op, 256 << 20, force=True)
        cipher.op.sendmsg([bytes(32)], START)
        view = memoryview(memory)
        try:
            assert cipher.op.recvmsg([view], flags=MSG_DONTWAIT).size == 32
            assert bytes(view[:33]) == encrypted("cbc(aes)", bytes(32)) + b"\0"
        finally:
            view.release()


@pytest.mark.fixed_by("7cf81954705b", "crypto: algif_skcipher - Cap recv SG list at ctx->used")
def test_rsgl_pins_no_more_than_the_result() -> None:
    """Nothing is there: EFAULT when more of the buffer is pinned than the result takes (maxsize of af_alg_get_rsgl)."""
    with need(Skcipher, "cbc(aes)", KEY) as cipher, Memory(1, PROT_NONE) as memory:
        cipher.op.sendmsg([bytes(32)], START)
        assert cipher.op.recvmsg([memory.pointer(PAGE - 32, 32 + PAGE)], flags=MSG_DONTWAIT).size == 32
        assert memory.read(PAGE - 32, 32) == encrypted("cbc(aes)", bytes(32))


@pytest.mark.fixed_by("ecaaab564978", "crypto: salsa20 - fix blkcipher_walk API usage", cve="CVE-2017-17805")
@pytest.mark.parametrize("name", ["salsa20", "ctr(aes)", "cbc(aes)", "ecb(aes)", "chacha20"])
def test_a_request_of_no_bytes_gives_no_bytes(name: str) -> None:
    """A stream cipher used an address that an empty walk never set (blkcipher_walk, now skcipher_walk)."""
    with need(Skcipher, name, KEY + KEY if name == "chacha20" else KEY) as cipher:
        iv = b"" if name == "ecb(aes)" else set_iv(IV[:8] if name == "salsa20" else IV)
        cipher.op.sendmsg([b""], set_op(ALG_OP_ENCRYPT) + iv)
        assert cipher.op.recv(16) == b"", "a request of no bytes gave some"


@pytest.mark.fixed_by("dd504589577d", "crypto: algif_skcipher - Require setkey before accept(2)", cve="CVE-2015-8970")
def test_a_cipher_without_a_key_is_usable_only_after_it_got_one() -> None:
    """ENOKEY until the tfm has a key (skcipher_check_key, crypto/algif_skcipher.c): it went to the cipher without."""
    with need(Skcipher, "cbc(aes)") as cipher:
        with raises_errno(errno.ENOKEY, why="a send without a key"):
            cipher.op.sendmsg([bytes(16)], START)
        with raises_errno(errno.ENOKEY):
            cipher.op.recv(16, MSG_DONTWAIT)
        cipher.tfm.set_key(KEY)
        cipher.op.sendmsg([bytes(16)], START)
        assert cipher.op.recv(16) == encrypted("cbc(aes)", bytes(16))


def test_a_failed_send_leaves_no_trace_in_the_next() -> None:
    """After a send that broke off, the next wrote behind the wrong entry.

    Linux kernel commit 9574b2330dbd ("crypto: af_alg - Set merge to zero early in af_alg_sendmsg"), CVE-2025-39931.
    It takes an allocation that fails at the right moment: this is the nearest that always works.
    """
    with need(Skcipher, "cbc(aes)", KEY) as cipher, mmap.mmap(-1, PAGE) as memory:
        cipher.op.sendmsg([bytes(16)], START, MSG_MORE)
        with raises_errno(errno.EFAULT):
            cipher.op.send(unmapped(), MSG_MORE)
        memory[:] = b"x" * PAGE
        cipher.op.send(bytes(memory))
        assert cipher.op.recv(PAGE + 16) == encrypted("cbc(aes)", bytes(16) + b"x" * PAGE)


def unmapped() -> Pointer:
    """Return a page at an address where nothing can be."""
    return Pointer(PAGE, PAGE)


def poll_until_full(fd: int) -> None:
    """Wait until the socket takes no more data."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    for _ in range(10_000_000):
        if not poller.poll(0):
            return
    raise AssertionError("a send of more than the buffer holds did not fill it")


def free_bytes() -> int:
    """Return MemAvailable."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
