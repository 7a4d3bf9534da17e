"""What is to be built: a tree, its variants, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vm.base.arch import Architecture
from vm.kernels import kconfig
from vm.kernels.build import sources


@dataclass(frozen=True)
class Plan:
    """One build: a tree, its variants, and what follows from them.

    Attributes:
        tree: what is built.
        variants: names of fragments, sorted.
        shadow: the directory of links that stands for the tree.
        out: the build directory, in it.
        fragments: in the order of merging.
        architecture: that it is built for.
    """

    tree: sources.Tree
    variants: tuple[str, ...]
    shadow: Path
    out: Path
    fragments: tuple[kconfig.Fragment, ...]
    architecture: Architecture

    @property
    def label(self) -> str:
        """The kernel's name: ``6.12.117-src+debug``."""
        return "+".join((self.tree.label, *self.variants))

    @property
    def log(self) -> Path:
        """Everything that make and the compiler said, of the newest build."""
        return self.out / "build.log"

    @property
    def make_variables(self) -> tuple[str, ...]:
        """What stands on make's command line because of the variants."""
        return tuple(word for fragment in self.fragments for word in fragment.make)
