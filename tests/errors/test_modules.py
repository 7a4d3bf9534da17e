"""Modules of AF_ALG: none goes while a socket needs it, all go when none does, and bind(2) brings them back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.afalg import Skcipher, Socket
from tests.afalg.proc import implementations
from tests.algorithms.modules import program
from tests.doctor import absence
from tests.errors import probes
from tests.errors.kernel_memory import lost
from tests.errors.subjects import EVERY, SKCIPHER, Subject, each_type
from tests.need import lacking, need
from tests.oracle import skciphers

CORE = "af_alg"
TYPES = [f"algif_{subject.type_}" for subject in EVERY]


@pytest.fixture(autouse=True)
def _modules_again() -> Iterator[None]:
    """Skip where these are no modules; at the end all are there again, and crypto.af_alg_restrict is what it was."""
    for subject in EVERY:
        subject.open().close()
    if not Path("/proc/modules").exists():
        lacking(absence.MODULES)
    for name in (CORE, *TYPES):
        if not loaded(name):
            pytest.skip(f"{name} is built into this kernel")
    level = probes.RESTRICT.read_text() if probes.RESTRICT.exists() else None
    yield
    run("modprobe", "--all", CORE, *TYPES)
    if level is not None:
        probes.RESTRICT.write_text(level)


def run(*command: str) -> int:
    """Return the exit status of a program of kmod."""
    path = program(command[0])
    assert path is not None, f"no {command[0]} (kmod)"
    return subprocess.run([path, *command[1:]], timeout=60, capture_output=True).returncode


def loaded(name: str) -> bool:
    return Path(f"/sys/module/{name}/refcnt").exists()


def references(name: str) -> int:
    """Return the number of users of a module (/sys/module/NAME/refcnt)."""
    return int(Path(f"/sys/module/{name}/refcnt").read_text())


def unload(name: str) -> bool:
    """Take a module out, and return whether it went: delete_module(2) refuses while it has users."""
    went = run("rmmod", name) == 0
    assert went is not loaded(name)
    return went


@each_type
def test_module_of_a_type_in_use_stays(subject: Subject) -> None:
    """While a tfm socket is bound to the type, or an op socket of it lives on (try_module_get in alg_get_type)."""
    name = f"algif_{subject.type_}"
    before = references(name)
    transform = subject.open()
    with transform.tfm.accept() as op:
        assert references(name) > before
        assert not unload(name)
        subject.works(op)
        transform.close()
        assert not unload(name)
        subject.works(op)
    assert references(name) == before == 0
    assert unload(name)


@each_type
def test_module_of_a_type_comes_back_with_the_next_bind(subject: Subject) -> None:
    """By its alias, ``algif-`` and the type (alg_bind); the other types do not notice."""
    assert unload(f"algif_{subject.type_}")
    for other in EVERY:
        if other is not subject:
            with other.open() as transform:
                other.works(transform.op)
    with subject.open() as transform:
        subject.works(transform.op)
    assert loaded(f"algif_{subject.type_}")


def test_core_stays_while_there_is_any_socket() -> None:
    """One that is not bound is enough: the family's module counts sockets (__sock_create)."""
    with Socket.create():
        for name in TYPES:
            assert unload(name)
        assert not unload(CORE)
    assert unload(CORE)


def test_core_stays_while_a_type_is_there() -> None:
    """Types use functions of it (af_alg_register_type)."""
    assert references(CORE) == len(TYPES)
    for name in TYPES:
        assert not unload(CORE)
        assert unload(name)
    assert unload(CORE)


def test_core_comes_back_with_the_next_socket() -> None:
    """By the alias of the family, net-pf-38 (__sock_create); everything works as before."""
    for name in (*TYPES, CORE):
        assert unload(name)
    assert not probes.RESTRICT.exists()
    Socket.create().close()
    assert loaded(CORE)
    if probes.RESTRICT.exists():
        probes.RESTRICT.write_text("0\n")
    with SKCIPHER.open() as transform:
        SKCIPHER.works(transform.op)


def test_references_come_back_whatever_was_done() -> None:
    """Of sockets that were refused a name, were bound again, or had op sockets: none holds its module at the end.

    Source: alg_do_release, crypto/af_alg.c.
    """
    before = {name: references(name) for name in (CORE, *TYPES)}
    # Of each type one refusal: a name that is not there costs calls of modprobe.
    for subject, name in zip(EVERY, ("", "no-such-algorithm", "cbc(sha256)", "hmac(cbc(aes))"), strict=True):
        with subject.open() as transform, transform.tfm.accept() as one, transform.tfm.accept():
            subject.works(one)
        with Socket.create() as tfm:
            for other in EVERY:
                tfm.bind(other.type_, other.name)
            with pytest.raises(OSError, match=r"\d"):
                tfm.bind(subject.type_, name)
    assert {name: references(name) for name in (CORE, *TYPES)} == before


def test_module_of_a_template_leaves_with_its_instances() -> None:
    """Not while one is used; then they are gone with it, their memory too, and the next bind brings it back.

    Source: crypto_unregister_template, crypto/algapi.c.
    """
    name = "lrw(aes)"

    def cycle() -> None:
        with need(Skcipher, name, bytes(32)) as cipher:
            assert cipher.encrypt(bytes(16), bytes(16)) == skciphers.crypt(name, bytes(32), bytes(16), bytes(16))
        assert unload("lrw")
        assert not [entry.driver for entry in implementations() if entry.name == name]

    with need(Skcipher, name, bytes(32)) as cipher:
        if not loaded("lrw"):
            pytest.skip("lrw is built into this kernel")
        assert not unload("lrw")
        assert cipher.decrypt(cipher.encrypt(bytes(16), bytes(16)), bytes(16)) == bytes(16)
    assert lost(cycle, 6) == []
    need(Skcipher, name).close()


def test_restriction_is_on_until_somebody_sets_it() -> None:
    """Documentation/admin-guide/sysctl/crypto.rst of Linux 7.3: af_alg_restrict, 1 by default."""
    if not probes.RESTRICT.exists():
        lacking(absence.RESTRICTION)
    for name in (*TYPES, CORE):
        assert unload(name)
    assert run("modprobe", CORE) == 0
    assert probes.RESTRICT.read_text() == "1\n"
