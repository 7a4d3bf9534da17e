"""The guest's process 1: what it needs of the host is there, wherever that keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.machine import init
from vm.machine.spec import Vm


def rendered(directory: Path, modules: str, cwd: str = "/") -> str:
    vm = Vm("6.1-1", "6.1", "6.1.0", "/boot/bzImage", modules, "tcg", 1024, 1, 30.0, cwd)
    return init.render(vm, directory)


@pytest.mark.parametrize("place", ["/dev/shm/cache", "/run/user/0/cache", "/var/tmp/a b", "/tmp/x/y"])
def test_what_lies_where_a_guest_has_its_own_is_bound_there_again(place: str) -> None:
    """A cache in /dev/shm was hidden by the guest's own: it had no modules, and every test an error."""
    text = rendered(Path("/srv/results/vms/6.1-1"), place)
    opened = [line for line in text.splitlines() if line.startswith("exec ") and place in line and "<" in line]
    bound = [line for line in text.splitlines() if "mount --bind" in line and place in line]
    assert len(opened) == len(bound) == 1
    number = opened[0].removeprefix("exec ").partition("<")[0]
    assert f"/proc/self/fd/{number} " in bound[0]
    assert text.index(opened[0]) < text.index("mount -t devtmpfs") < text.index(bound[0])


def test_what_lies_elsewhere_is_seen_as_it_is() -> None:
    text = rendered(Path("/srv/results/vms/6.1-1"), "/srv/cache")
    assert "</srv" not in text


def test_one_directory_in_another_is_bound_once() -> None:
    text = rendered(Path("/run/vms/6.1-1"), "/run/vms/6.1-1/modules", cwd="/run/vms/6.1-1/modules")
    assert text.count("mount --bind /proc/self/fd/") == 1
