"""Deadlines: the kernel's own watchdogs report before the host gives a machine up, whatever it runs on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.run.deadlines import MARGIN, deadlines, slower

# As the kernel has them: kernel/watchdog.c, Documentation/RCU/stallwarn.rst.
SOFT_LOCKUP_REPORTED = 2 * 10 + 2 * 10 / 5
SYMBOLS = ["KASAN_GENERIC", "KCSAN", "PROVE_LOCKING", "DEBUG_KMEMLEAK", "CRYPTO_AES"]

configs = st.dictionaries(st.sampled_from(SYMBOLS), st.sampled_from(["y", "m"]))
accelerators = st.sampled_from([1.0, 3.0, 10.0])
seconds = st.floats(0.5, 300)


@given(boot=seconds, test=seconds, accelerator=accelerators, config=configs)
def test_the_host_is_the_last_to_give_up(boot: float, test: float, accelerator: float, config: dict[str, str]) -> None:
    """Under KVM it killed after 20 s, before a soft lockup (24 s), an RCU stall or a hung task could be reported."""
    found = deadlines(boot, test, None, accelerator, config)
    watchdogs = [SOFT_LOCKUP_REPORTED, 21, found.hung_task + found.hung_task_check]
    assert found.vm >= max(watchdogs) + MARGIN
    assert found.vm >= found.test + 5
    assert found.hung_task >= 20
    assert 1 <= found.hung_task_check <= 10
    assert found.boot == pytest.approx(boot * found.factor)


@given(marker=st.none() | seconds, accelerator=accelerators, config=configs)
def test_a_test_with_a_deadline_of_its_own_ends_in_the_guest(
    marker: float | None, accelerator: float, config: dict[str, str]
) -> None:
    found = deadlines(30, 10, None, accelerator, config)
    in_guest = found.test if marker is None else marker * found.factor
    assert found.patience(marker) >= in_guest + MARGIN
    assert found.patience(marker) >= found.vm


@given(accelerator=accelerators, config=configs, more=st.sampled_from(SYMBOLS))
def test_a_slower_machine_has_no_less_time(accelerator: float, config: dict[str, str], more: str) -> None:
    one = deadlines(30, 10, None, accelerator, config)
    for other in (
        deadlines(30, 10, None, accelerator * 2, config),
        deadlines(30, 10, None, accelerator, config | {more: "y"}),
    ):
        assert other.factor >= one.factor
        assert (other.boot, other.test, other.vm) >= (one.boot, one.test, one.vm)
        assert other.hung_task >= one.hung_task


@pytest.mark.parametrize(
    ("accelerator", "config", "boot", "test", "vm"),
    [
        (1.0, {}, 30, 10, 35),
        (10.0, {}, 300, 100, 200),
        (1.0, {"KASAN_GENERIC": "y", "PROVE_LOCKING": "y"}, 180, 60, 120),
    ],
    ids=["kvm", "tcg", "kvm-debug"],
)
def test_defaults(accelerator: float, config: dict[str, str], boot: float, test: float, vm: float) -> None:
    found = deadlines(30, 10, None, accelerator, config)
    assert (found.boot, found.test, found.vm) == (boot, test, vm)


def test_what_the_user_says_is_taken() -> None:
    """Unless the test itself may take longer."""
    assert deadlines(30, 8, 13, 1.0, {}).vm == 13
    assert deadlines(30, 8, 3, 1.0, {}).vm == 13
    assert deadlines(30, 8, 13, 10.0, {"KCSAN": "y"}).vm == 13 * 40


def test_the_kernel_is_told() -> None:
    assert deadlines(30, 10, None, 10.0, {}).kernel_arguments == [
        "rcupdate.rcu_cpu_stall_timeout=21",
        "sysctl.kernel.hung_task_timeout_secs=90",
        "sysctl.kernel.hung_task_check_interval_secs=10",
    ]


def test_slowness_has_a_limit() -> None:
    assert slower(dict.fromkeys(SYMBOLS, "y")) == 8.0
    assert slower({"KASAN_GENERIC": "m", "CRYPTO_AES": "y"}) == 1.0
