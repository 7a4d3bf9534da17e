"""QEMU's options for the kind of machine a guest sees: board and processor (vm/base/arch.py has the kinds).

The profile follows the accelerator, but is an axis of its own: that of KVM can be tried under TCG (``--profile kvm``),
so that the VM which users have is tested where no KVM is.
"""

from __future__ import annotations

from vm.base.arch import Architecture


def cpu(architecture: Architecture, profile: str, accelerator: str, model: str = "") -> str:
    """Return QEMU's ``-cpu`` value.

    Args:
        architecture: of the guest.
        profile: name of the profile.
        accelerator: ``kvm`` or ``tcg``: the host's own processor can only be had under KVM, and a defect of TCG is
            there in every profile.
        model: what is asked for, in QEMU's words; features alone (``-avx2,-fma``) are those of the usual processor,
            which empty means as it is.
    """
    profiles = architecture.profiles
    own = model and not model.startswith(("+", "-"))
    asked = [*([] if own else profiles[profile].cpu.split(",")), *filter(None, model.split(","))]
    if accelerator != "kvm" and asked[0] == "host":
        asked[0] = "max"
    wanted = [profiles[profile].features] if own else []
    wanted += [profiles[accelerator].features]
    named = {word.lstrip("+-").partition("=")[0] for word in asked}
    for feature in filter(None, wanted):
        if feature.lstrip("+-").partition("=")[0] not in named:
            asked.append(feature)
            named.add(feature.lstrip("+-").partition("=")[0])
    return ",".join(asked)


def arguments(architecture: Architecture, profile: str, accelerator: str, model: str = "") -> list[str]:
    """Return QEMU's options for accelerator, board and processor; the arguments are those of :func:`cpu`."""
    board = architecture.profiles[profile].board
    return ["-accel", accelerator, "-machine", board, "-cpu", cpu(architecture, profile, accelerator, model)]
