"""Messages to NETLINK_CRYPTO, and building an algorithm from a template, with failures in turn."""

from __future__ import annotations

import contextlib
import errno

import pytest

from tests.afalg import Skcipher, Socket
from tests.afalg.netlink import CRYPTO_MSG_DELALG, CRYPTO_MSG_NEWALG, CryptoNetlink, alg
from tests.errors.returns import returns
from tests.faults.inject import COPIES, LOOKUP, NO_MEMORY, Allowed, Injector, Story
from tests.need import need

# Building an instance takes a thread of the kernel's own each time.
pytestmark = pytest.mark.deadline(60)

INSTANCE = "cbc(camellia-generic)"
"""What the template cbc makes of the plain cipher; nobody else uses it."""
CRYPTO_ALG_TESTED = 0x400
QUEUE: Allowed = {
    errno.ENOBUFS: "no memory for a message in the socket's queue",
    errno.EMSGSIZE: "no memory for a report counts as one that does not fit",
}
RETRY: Allowed = {errno.EAGAIN: "the instance went while it was built"}


@pytest.fixture
def instance(crypto: CryptoNetlink) -> str:
    """Name an instance that can be made and removed, or skip the test."""
    need(Skcipher, INSTANCE).close()
    try:
        crypto.request(CRYPTO_MSG_DELALG, alg(driver=INSTANCE))
    except OSError:
        pytest.skip(f"kernel cannot make {INSTANCE}")
    return INSTANCE


def test_ask_for_one(inject: Injector, crypto: CryptoNetlink) -> None:
    """crypto_report (crypto/crypto_user.c): without memory for the answer ENOMEM, and the algorithm is put back."""
    need(Skcipher, "cbc(aes)").close()

    def story() -> Story:
        with CryptoNetlink(seconds=1) as netlink:
            ended = yield lambda: netlink.get("cbc(aes)")
            assert ended.errno or ended.value.name == "cbc(aes)"
        assert crypto.get("cbc(aes)").name == "cbc(aes)"

    assert inject.walk(story, NO_MEMORY | COPIES | QUEUE) >= {0, errno.ENOMEM}


def test_build_an_instance(inject: Injector, crypto: CryptoNetlink, instance: str) -> None:
    """A failure leaves no half-made algorithm: what stands in /proc/crypto is whole, and the next attempt builds it.

    Source: crypto_add_alg, crypto_probing_notify.
    """

    def story() -> Story:
        removed(crypto, instance)
        # A socket of its own: an answer that could not be copied stays in its queue.
        with CryptoNetlink() as netlink:
            yield lambda: netlink.request(CRYPTO_MSG_NEWALG, alg(driver=instance))
        whole(crypto, instance)
        need(Skcipher, instance, bytes(16)).close()

    assert errno.ENOMEM in inject.walk(story, NO_MEMORY | COPIES | LOOKUP | QUEUE | RETRY)


def test_remove_an_instance(inject: Injector, crypto: CryptoNetlink, instance: str) -> None:
    """crypto_del_alg (crypto/crypto_user.c): the instance is there whole or gone, and the next bind makes it."""

    def story() -> Story:
        need(Skcipher, instance, bytes(16)).close()
        # A socket of its own: an answer that could not be copied stays in its queue.
        with CryptoNetlink() as netlink:
            yield lambda: netlink.request(CRYPTO_MSG_DELALG, alg(driver=instance))
        whole(crypto, instance)
        need(Skcipher, instance, bytes(16)).close()

    assert 0 in inject.walk(story, NO_MEMORY | COPIES | QUEUE)


@returns("bind-no-memory", "bind-template-refuses")
def test_bind_builds_an_instance(inject: Injector, crypto: CryptoNetlink, instance: str) -> None:
    """The first bind of a template's instance; most of the work is done by a thread of the kernel's own.

    Source: cryptomgr_probe in crypto/algboss.c.
    """

    def story() -> Story:
        removed(crypto, instance)
        with Socket.create() as tfm:
            yield lambda: tfm.bind("skcipher", INSTANCE)
            whole(crypto, instance)
            tfm.bind("skcipher", INSTANCE)
            tfm.set_key(bytes(16))

    assert errno.ENOMEM in inject.walk(story, NO_MEMORY | COPIES | LOOKUP | RETRY)


def removed(crypto: CryptoNetlink, driver: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        crypto.request(CRYPTO_MSG_DELALG, alg(driver=driver))


def whole(crypto: CryptoNetlink, driver: str) -> None:
    """Fail when a placeholder of an algorithm is left, or one that has not passed its self-test."""
    with contextlib.suppress(FileNotFoundError):
        found = crypto.get(driver=driver)
        assert found.kind, f"a placeholder is left: {found}"
        assert found.flags & CRYPTO_ALG_TESTED, f"left untested: {found}"
