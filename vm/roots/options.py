"""Words of the options that say what guests run from; guests import them as well, and have none of what makes roots."""

from __future__ import annotations

KINDS = ("auto", "image", "initramfs", "host")
"""Values of ``--root``: by what the kernel has; a root of its own on a disk, or in memory; this host's files by 9p."""
HELP = (
    "what guests run from: image, a root of their own on a disk; initramfs, the same in memory, which needs no driver; "
    "or host, this machine's files by 9p; auto takes what the kernel has drivers for (default)"
)
PACKAGES_HELP = "Debian packages that a root of the guest's own has besides, with commas between them"
SUITE_HELP = "the Debian release that a root of the guest's own is made of (default: the newest stable one)"
