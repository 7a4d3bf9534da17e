"""The machine's apt sources, and a source that asks for one suite alone.

Which mirror, which keys, which proxy come from the configuration of the machine (sources.list(5), apt.conf(5)), so
that no address is written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import process
from vm.base.errors import UsageError
from vm.kernels.apt.apt_get import ARCHITECTURE, complaint

KEYRINGS = Path("/usr/share/keyrings")


@dataclass(frozen=True)
class Source:
    """One entry of the machine's apt sources, whichever of the two formats it is written in.

    Attributes:
        uris: the archive's addresses.
        suites: ``bookworm``, ``bookworm-updates``.
        components: ``main``, ``contrib``.
        options: further deb822 fields in lower case, with their values as written (Signed-By, Trusted, …).
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: Mapping[str, str]


def machine_sources() -> tuple[Source, ...]:
    """Read the machine's apt sources: one-line ``.list`` and deb822 ``.sources``, binary packages only.

    Raises:
        UsageError: apt's configuration cannot be read.
    """
    result = process.run(
        ["apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"],
        deadline=30,
    )
    paths = dict(re.findall(r"^(LIST|PARTS)='(.*)'$", result.output, re.MULTILINE))
    if result.status or not paths:
        raise UsageError(f"apt-config cannot read apt's configuration: {complaint(result)}")
    files = [Path(paths["LIST"])] if "LIST" in paths else []
    if "PARTS" in paths:
        files += sorted(Path(paths["PARTS"]).glob("*"))
    found: list[Source] = []
    for file in files:
        # apt skips other names too: sources.list(5), "SOURCES.LIST.D".
        if file.suffix in (".list", ".sources") and file.is_file():
            try:
                text = file.read_text()
            except OSError as error:
                raise UsageError(f"cannot read {file}: {error.strerror}") from error
            found += _deb822(text) if file.suffix == ".sources" else _one_line(text)
    return tuple(found)


def own_suites(sources: Sequence[Source]) -> list[str]:
    """Return the distribution's suites among ``sources``, in their order: not those of third parties."""
    return list(dict.fromkeys(suite for source in _official(sources) for suite in source.suites))


def source_text(suite: str, sources: Sequence[Source], architecture: str = ARCHITECTURE) -> str:
    """Return the deb822 source that asks for ``suite`` alone, made from what the machine has configured.

    A suite that is not configured is looked for on the mirror of the one that is, and a security suite on
    the archive of a configured security suite, with the keys of the distribution's keyring besides the
    configured ones. Kernels are in ``main``, which every release has.

    Args:
        suite: ``bookworm-security``.
        sources: of the machine.
        architecture: Debian's name of it.

    Raises:
        UsageError: no configured archive can have it.
    """
    usable = _official(sources)
    if own := [source for source in usable if suite in source.suites]:
        return "\n".join(_paragraph(suite, source.uris, source.options, architecture) for source in own)
    security = _is_security(suite)
    for source in usable:
        if any(_is_security(configured) == security for configured in source.suites):
            return _paragraph(suite, source.uris, _foreign(source.options), architecture)
    if security and usable:
        raise UsageError(
            f"{suite} is on the distribution's security archive, and this machine's apt sources name none; "
            "add a *-security suite to them (sources.list(5)), or ask another suite"
        )
    raise UsageError(
        "this machine's apt sources name no archive of the distribution; add one (sources.list(5)), "
        "or give an image, a kernel tree or 'running'"
    )


def _deb822(text: str) -> list[Source]:
    found = []
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n\s*\n", body):
        fields = {
            name.lower(): value.strip(" \t")
            for name, value in re.findall(r"^([\w-]+):(.*(?:\n[ \t]+.*)*)", paragraph, re.MULTILINE)
        }
        types, enabled = fields.pop("types", "").split(), fields.pop("enabled", "yes").strip().lower()
        if "deb" in types and enabled not in ("no", "false", "0", "off", "without", "disable"):
            uris, suites, components = (
                tuple(fields.pop(name, "").split()) for name in ("uris", "suites", "components")
            )
            found.append(Source(uris, suites, components, fields))
    return found


def _one_line(text: str) -> list[Source]:
    found = []
    for line in text.splitlines():
        entry = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+[^#\s]\S*)*)\s*(?:#.*)?$", line)
        if entry and not entry[2].startswith("cdrom:"):
            options = dict(re.findall(r"([\w-]+)=(\S+)", entry[1] or ""))
            named = {name.lower(): value.replace(",", " ") for name, value in options.items()}
            found.append(Source((entry[2],), (entry[3],), tuple(entry[4].split()), named))
    return found


def _official(sources: Sequence[Source]) -> list[Source]:
    """Return those of ``sources`` that are the distribution's.

    Third parties use the release's name as a suite too (deb https://…/apt bookworm main). The distribution's
    archives are told by their path, which nearly all mirrors, snapshots and mirror lists keep; where none has
    that path, all are taken. Third parties of Ubuntu have the same path (…/ppa/ubuntu), but not its other suites
    and components.
    """
    usable = [source for source in sources if "main" in source.components]
    path = re.compile(r"/debian(-security)?(/\d{8}T\d{6}Z)?(\.list)?/?$")
    ubuntu = re.compile(r"/ubuntu(-ports)?/?$")
    return [
        source
        for source in usable
        if any(map(path.search, source.uris))
        or any(map(_is_security, source.suites))
        or (any(map(ubuntu.search, source.uris)) and not _may_be_third_party(source))
    ] or usable


def _may_be_third_party(source: Source) -> bool:
    pockets = any(suite.endswith(("-updates", "-backports", "-proposed")) for suite in source.suites)
    return not pockets and source.components == ("main",)


def _is_security(suite: str) -> bool:
    return suite.endswith(("-security", "/updates"))  # the latter up to buster


def _paragraph(suite: str, uris: Sequence[str], options: Mapping[str, str], architecture: str) -> str:
    fixed = {
        "types": "deb", "uris": " ".join(uris), "suites": suite, "components": "main",
        "architectures": architecture, "languages": "none", "targets": "Packages",
    }  # fmt: skip
    ours = {"arch", "lang", "target", *fixed}
    kept_options = {name: value for name, value in options.items() if name not in ours}
    # A key as it stands in the source begins on the next line.
    fields = {name: value if value.startswith("\n") else f" {value}" for name, value in kept_options.items()}
    return "".join(f"{name}: {value}\n" for name, value in fixed.items()) + "".join(
        f"{name}:{value}\n" for name, value in fields.items()
    )


def _foreign(options: Mapping[str, str]) -> dict[str, str]:
    """Options for a suite of another release: its own keys, and no complaint that it is no longer renewed."""
    signed_by = options.get("signed-by", "")
    keyrings = sorted(str(path) for path in KEYRINGS.glob("debian-archive-*.gpg") if "removed" not in path.name)
    files = [name for name in signed_by.split() if name.startswith("/")]
    changed = {**options, "check-valid-until": "no"}
    if keyrings and "BEGIN PGP" not in signed_by:
        changed["signed-by"] = " ".join(dict.fromkeys(files + keyrings))
    return changed
