"""What this host gives its guests: how QEMU runs them, what it has, and how many at once."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import pytest

from vm.base import room
from vm.kernels.spec import Kernel
from vm.machine import features
from vm.machine.accel import Accelerator, probe

# MiB that QEMU and the relay take besides the guest's memory.
_OVERHEAD = 150
NONE = Accelerator("none", "no virtual machine", 1.0)


def accelerators(kernels: Sequence[Kernel], config: pytest.Config) -> dict[str, Accelerator]:
    """Find out how QEMU runs the guests of each kernel that has any."""
    option, found = config.option, {kernel.name: NONE for kernel in kernels}
    for kernel in kernels:
        if kernel.image:
            found[kernel.name] = probe(option.qemu, option.accel, cpu=option.cpu, architecture=kernel.architecture)
    return found


def features_of(kernels: Sequence[Kernel], config: pytest.Config) -> features.Features:
    """Find out what QEMU has, when there will be guests: what each of several has."""
    architectures = {kernel.architecture for kernel in kernels if kernel.image and not config.option.vm_command}
    found = [features.probe(each, config.option.qemu) for each in architectures]
    each_has = (all(getattr(each, field.name) for each in found) for field in dataclasses.fields(features.Features))
    return features.Features(*each_has)


def room_for(memory: int) -> int:
    """Return how many machines of ``memory`` MiB this host carries at once: by its processors, and by its memory."""
    by_memory = min(room.memory() // 2**20 // (memory + _OVERHEAD), sys.maxsize)
    return max(1, min(int(by_memory), max(4, 2 * room.processors())))
