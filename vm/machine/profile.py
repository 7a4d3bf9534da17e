"""What kind of machine a guest sees: board, processor and how its kernel is loaded.

The profile follows the accelerator, but is an axis of its own: that of KVM can be tried under TCG (``--profile kvm``),
so that the machine which users have is tested where no KVM is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """One kind of machine.

    Attributes:
        board: QEMU's name of it (``-machine``).
        cpu: processor model and features (``-cpu``).
        features: of any other processor that is asked for, appended to its model.
        unpacked: whether a bzImage is unpacked on the host. The kernel is then entered without its own decompressor,
            which takes longer than its start when emulated, and without KASLR.
        kernel_arguments: for the kernel's command line.
    """

    board: str
    cpu: str
    features: str = ""
    unpacked: bool = False
    kernel_arguments: tuple[str, ...] = ()


PROFILES = {
    # No PMU: its interrupts are NMIs, and one that nobody expects is a panic here (unknown_nmi_panic).
    "kvm": Profile(board="q35", cpu="host,pmu=off", features="pmu=off"),
    "tcg": Profile(
        board="q35",
        # TCG of QEMU 7.2 corrupts the flags on cmpxchg16b: guests fault at random.
        cpu="max,-cx16",
        features="-cx16",
        unpacked=True,
        kernel_arguments=(
            # An emulated timer is late on a busy host, and the kernel panics: "IO-APIC + timer doesn't work".
            "no_timer_check",
            # 27 s with every algorithm built in; a kernel that shall do them says so (Kernel.own_arguments).
            "cryptomgr.notests",
        ),
    ),
}
"""By name: that of the accelerator whose machines have it."""


def cpu(profile: str, accelerator: str, model: str = "") -> str:
    """Return QEMU's ``-cpu`` value.

    Args:
        profile: name of the profile.
        accelerator: ``kvm`` or ``tcg``: the host's own processor can only be had under KVM, and a defect of TCG is
            there in every profile.
        model: what the user asked for, in QEMU's words, or empty.
    """
    asked = [*model.split(",")] if model else PROFILES[profile].cpu.split(",")
    if accelerator != "kvm" and asked[0] == "host":
        asked[0] = "max"
    wanted = [PROFILES[profile].features] if model else []
    wanted += [PROFILES[accelerator].features]
    named = {word.lstrip("+-").partition("=")[0] for word in asked}
    for feature in filter(None, wanted):
        if feature.lstrip("+-").partition("=")[0] not in named:
            asked.append(feature)
            named.add(feature.lstrip("+-").partition("=")[0])
    return ",".join(asked)


def arguments(profile: str, accelerator: str, model: str = "") -> list[str]:
    """Return QEMU's options for accelerator, board and processor; the arguments are those of :func:`cpu`."""
    return ["-accel", accelerator, "-machine", PROFILES[profile].board, "-cpu", cpu(profile, accelerator, model)]
