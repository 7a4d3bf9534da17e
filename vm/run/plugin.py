"""The pytest plugin: options, and which half of it is active here.

Three roles, one plugin: the *controller* on the host (``--kernel`` given) boots machines and hands out tests
(vm/run/session.py); the *worker* in a guest runs them (vm/guest/worker.py); and without ``--kernel`` there is one
process that runs the tests on the kernel it is on, with the worker's half only.
"""

from __future__ import annotations

import argparse
import pkgutil
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vm.base.errors import UsageError
from vm.guest import expect, internals, journal
from vm.roots import options
from vm.run import live, shard
from vm.run.config import EXPECTED, NOTHING_KNOWN, labels, role

# Made by vm/machine/init.sh; without a worker's input, it tells a guest's shell from somebody's machine.
OF_A_GUEST = Path("/run/vm/bin")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and the ini settings of the runner."""
    group = parser.getgroup("vm", "kernels in virtual machines")
    add = group.addoption
    add("--kernel", action="append", default=[], metavar="SPEC", dest="vm_kernels", help=(
        "kernel to test, may be given several times: an image, a build tree, a packaged version (6.12, 6.12.94), "
        "SUITE/VERSION (trixie-backports/7.3), or 'running' for this one"
    ))  # fmt: skip
    add("--vms", type=_count, default=None, metavar="N", help=(
        "virtual machines a kernel (default: the processors of this host, shared among the kernels, at most 4)"
    ))  # fmt: skip
    add("--vms-at-once", type=_count, default=None, metavar="N", dest="vm_at_once", help=(
        "machines of all kernels together at any time; further ones wait (default: as many as this host has room for)"
    ))  # fmt: skip
    add("--vm-cpus", type=_count, default=1, metavar="N", help="processors of a machine (default: 1)")
    add("--vm-memory", type=_count, default=1024, metavar="MIB", help="memory of a machine (default: 1024)")
    add("--accel", choices=["auto", "kvm", "tcg"], default="auto", help=(
        "how QEMU runs guests; auto takes KVM when code really runs under it (default)"
    ))  # fmt: skip
    add("--profile", choices=["kvm", "tcg"], default="", help=(
        "board, processor and kernel image as under that accelerator (default: the one that is used)"
    ))  # fmt: skip
    add("--cpu", default="", metavar="MODEL", help=(
        "processor of the machines, as QEMU's -cpu (default: the host's under KVM, max under TCG)"
    ))  # fmt: skip
    add("--root", choices=options.KINDS, default="auto", dest="vm_root", help=options.HELP)
    packages = options.PACKAGES_HELP
    add("--root-packages", default="", metavar="NAMES", dest="vm_root_packages", help=packages)
    add("--root-suite", default="", metavar="SUITE", dest="vm_root_suite", help=options.SUITE_HELP)
    add("--always-boot", action="store_true", dest="vm_always_boot", help=(
        "boot every machine; else one with a root of its own (--root) goes on from another of the same kernel, tests "
        "and options, which was saved when it had collected"
    ))  # fmt: skip
    add("--isolate", action="store_true", dest="vm_isolate", help=(
        "give every test a machine of its own, on which nothing ran before it; what that costs is said at the end"
    ))  # fmt: skip
    add("--boot-deadline", type=_seconds, default=30.0, metavar="S", help=(
        "seconds until a machine's Python is up (default: 30; like the next two, times 10 under TCG, and times up to 8 "
        "for a kernel with KASAN, lockdep or the like)"
    ))  # fmt: skip
    add("--test-deadline", type=_seconds, default=10.0, metavar="S", help=(
        "seconds a test may take before it is interrupted in the guest (default: 10)"
    ))  # fmt: skip
    add("--vm-deadline", type=_seconds, default=None, metavar="S", help=(
        "seconds a machine may be silent before it is killed and its test called hung (default: what lets the kernel's "
        "own watchdogs report first, 35, and 200 under TCG)"
    ))  # fmt: skip
    add("--vm-restarts", type=_whole, default=20, metavar="N", help=(
        "machines a kernel may lose before its remaining tests are given up as not run (default: 20)"
    ))  # fmt: skip
    add("--kernel-argument", action="append", default=[], metavar="ARG", dest="vm_kernel_arguments", help=(
        "append to the kernel's command line; may be given several times"
    ))  # fmt: skip
    add("--no-known-issues", action="store_true", dest="vm_no_known_issues", help=(
        "expect no failure of any kernel: a known issue fails its tests"
    ))  # fmt: skip
    add("--thorough", action="store_true", help="also what is marked thorough, and every case of tests that sample")
    add("--in-order", action="store_true", dest="vm_in_order", help=(
        "not those first that were bad in the run before (results/latest), nor those near what changed in a tree"
    ))  # fmt: skip
    add("--shard", type=shard.parse, default=None, metavar="I/N", help=(
        "only the part I of N of the tests, about as long as the others; python -m vm results merge puts parts together"
    ))  # fmt: skip
    add("--expendable", action="store_true", dest="vm_expendable", help=(
        "the machine may go down: run on the running kernel, too, what may take it down, last"
    ))  # fmt: skip
    add("--resume", default=None, metavar="DIR", dest="vm_resume", help=(
        "go on with a run of the running kernel that was cut off, by a reboot for instance: what ran then has crashed"
    ))  # fmt: skip
    add("--stream", choices=live.FORMATS, default=None, dest="vm_stream", help=(
        "each verdict on standard output as it comes: lines for people (default for the running kernel), TAP 13, or "
        "LAVA's signals"
    ))  # fmt: skip
    add("--reproducers", choices=["off", "failures", "all"], default="off", dest="vm_reproducers", help=(
        "a C program of each test that is red, which shows it without this suite: off (default), failures, or all, "
        "those that pass as well; tests are run once more for it, when all have run"
    ))  # fmt: skip
    add("--qemu", default=None, metavar="PATH", help="the QEMU to use (default: that of each kernel's architecture)")
    add("--results", default=None, metavar="DIR", help="where results go (default: results/ in the project)")
    # For the tests of the runner: a command that plays the guest, and what it is to do.
    add("--vm-command", default=None, help=argparse.SUPPRESS)
    parser.addini("guest_modules", "modules loaded in a guest before its first test", type="args", default=[])
    parser.addini("skip_budget", "TOML file that lists acceptable skips (vm/run/skips.py)", type="string", default="")
    parser.addini(
        "known_issues", "TOML file of known issues and the versions that have them (vm/run/known.py)", default=""
    )
    parser.addini(
        "coverage_reasons", "TOML file of lines no test can reach, and why (vm/coverage/unreached.py)", default=""
    )
    parser.addini(
        "timings",
        "JSON file of the seconds that tests took, by which --shard deals them out (vm/run/shard.py)",
        default="",
    )
    parser.addini("near_map", "JSON file of the tests near each function of the kernel (vm/run/near.py)", default="")
    parser.addini(
        "kernel_check", "MODULE:FUNCTION, in a guest: why no test makes sense on its kernel, or ''", default=""
    )
    parser.addini("guest_sysctls", "NAME=VALUE set in a guest where the sysctl exists", type="args", default=[])


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Have results written, before other plugins look at their options."""
    match role(config):
        case "controller" if not config.option.collectonly:
            from vm.run.controller import prepare

            prepare(config)
        case "worker":
            # The host's choice of a temporary directory does not exist in the guest.
            config.option.basetemp = None
            if only := (internals.workerinput(config) or {})["vm_only"]:
                config.args = [only]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Activate the half that belongs here."""
    config.addinivalue_line("markers", "deadline(seconds): how long this test may take, before scaling")
    config.addinivalue_line("markers", "vm: boots a real virtual machine; left out with -m 'not vm'")
    config.addinivalue_line("markers", "thorough: left out without --thorough")
    config.addinivalue_line("markers", "fixed_by(commit, title, cve=): the fix of the bug this test guards")
    match role(config):
        case "controller":
            from vm.run.controller import Controller, KernelList

            kind = KernelList if config.option.collectonly else Controller
            config.pluginmanager.register(kind(config), "vm-controller")
        case "worker" | "alone" if not config.option.collectonly:
            _register_guest(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say on which kernel tests run that were called without one."""
    if role(config) != "alone":
        return None
    return f"no --kernel: tests of the kernel run on this machine's own, {platform.release()}; in a VM: --kernel=6.12"


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Put the kernel first into the id of every test."""
    if names := labels(metafunc.config):
        metafunc.fixturenames.insert(0, "vm_kernel")
        metafunc.parametrize("vm_kernel", names)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a thorough run has, and run last what takes the machine down where the kernel has the bug."""
    if not config.option.thorough and (left := [item for item in items if item.get_closest_marker("thorough")]):
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    # A machine that is for one test does not ask whose part it is in.
    if config.option.shard is not None and not (internals.workerinput(config) or {}).get("vm_only"):
        shard.leave_out_others(config, items, config.option.shard)
    expect.last_those_that_crash(items, config.stash.get(EXPECTED, NOTHING_KNOWN))


def _register_guest(config: pytest.Config) -> None:
    from vm.guest.worker import GuestPlugin

    workerinput = internals.workerinput(config) or {}
    guest = GuestPlugin(
        test_deadline=config.option.test_deadline,
        factor=workerinput.get("vm_factor", 1.0),
        modules=config.getini("guest_modules"),
        sysctls=config.getini("guest_sysctls"),
        in_machine=workerinput.get("vm_in_machine", False),
        marking="vm_kernel" in workerinput,
        told=workerinput.get("vm_sysctls", ()),
        check=_kernel_check(config.getini("kernel_check") if "vm_kernel" in workerinput else ""),
    )
    config.pluginmanager.register(guest, "vm-guest")
    if "vm_journal" in workerinput:
        kept = journal.Journal(Path(workerinput["vm_journal"]), frozenset(workerinput["vm_done"]))
        config.pluginmanager.register(kept, "vm-journal")
    issues = config.stash[EXPECTED] = _issues(config, workerinput)
    expected = {} if config.option.vm_no_known_issues else issues
    expendable = workerinput.get("vm_expendable", OF_A_GUEST.is_dir() or config.option.vm_expendable)
    config.pluginmanager.register(expect.GuestExpectations(issues, expected, expendable), "vm-expectations")


def _kernel_check(named: str) -> Callable[[], str]:
    """Return the function of the ini setting ``kernel_check``, imported when it is called."""

    def check() -> str:
        said: str = pkgutil.resolve_name(named)()
        return said

    return check if named else str


def _issues(config: pytest.Config, workerinput: dict[str, Any]) -> dict[str, expect.Expectation]:
    """Return what the table says of this kernel: as the host says, or by the kernel's own name."""
    if "vm_issues" in workerinput:
        return {fix: expect.Expectation(*found) for fix, found in workerinput["vm_issues"].items()}
    from vm.run import known

    try:
        return known.expectations(known.load_for(config), known.running())
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, not {text!r}")
    return number
