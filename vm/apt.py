"""What apt does for us: signed package lists and packages of one suite, kept apart from the running system.

apt does the fetching and the checking of signatures, in directories of its own in the cache: the system's
lists and packages are neither read nor changed. Which mirror, which keys, which proxy come from the
configuration of the machine (sources.list(5), apt.conf(5)), so that no address is written here.

A suite's lists are kept as *generations*: directories that are made complete, renamed into place and never
changed, so that a reader needs no lock and a broken refresh leaves the previous lists as they were.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vm import cache, process
from vm.errors import UsageError

Progress = Callable[[str], None]

ARCHITECTURE = "amd64"
KEYRINGS = Path("/usr/share/keyrings")
PROGRAMS = ("apt-get", "apt-config", "dpkg-deb")
HELPER = Path("/usr/lib/apt/apt-helper")
KEPT_PACKAGES = re.compile(r"linux-(image|base|binary|modules|source)(-unsigned)?-\d")
GENERATIONS_KEPT = 2
WORK_PREFIX = "af-alg-tests.apt."
REFRESH_DEADLINE = 600.0
DOWNLOAD_DEADLINE = 3600.0
STALL_SECONDS = 120.0
SAY_EVERY_SECONDS = 5.0

# Whatever the machine says otherwise: lists of this suite only, no hooks that look at the running system, no
# unsigned archives (one that is meant to be trusted without a signature says so itself: trusted=yes).
CONFIGURATION = """\
Dir::State "{state}";
Dir::State::lists "{lists}";
Dir::State::status "/dev/null";
Dir::Cache "{state}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{sources}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
APT::Get::List-Cleanup "true";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
"""


class Unreachable(UsageError):
    """The mirror cannot be reached now: what is cached may still answer."""


class Gone(UsageError):
    """The lists name a package that the mirror no longer has: newer lists may help."""


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


@dataclass(frozen=True)
class Package:
    """One version of one kernel package in a suite's index.

    Attributes:
        name: ``linux-image-6.1.0-50-amd64``.
        version: ``6.1.176-1``.
        size: bytes to download.
        sha256: of the .deb, in hexadecimal, from the signed index.
        depends: the Depends field, as it stands.
    """

    name: str
    version: str
    size: int
    sha256: str
    depends: str


@dataclass(frozen=True)
class Lists:
    """The kernel packages of one suite, as of one refresh.

    Attributes:
        suite: ``bookworm-security``.
        directory: this generation's directory.
        packages: every version the suite's index names.
    """

    suite: str
    directory: Path
    packages: tuple[Package, ...]

    @property
    def age(self) -> float:
        """Seconds since the refresh."""
        return time.time() - int(self.directory.name)


def available() -> bool:
    """Say whether this machine has apt."""
    return all(process.find(tool) for tool in PROGRAMS)


def require() -> None:
    """Check that this machine can use packaged kernels at all.

    Raises:
        UsageError: apt is missing, or the machine is of another architecture.
    """
    missing = [tool for tool in PROGRAMS if process.find(tool) is None]
    if missing:
        raise UsageError(
            f"packaged kernels need {', '.join(missing)} (Debian), not found here; "
            "give a bzImage, a kernel tree or 'running' instead"
        )
    if (machine := os.uname().machine) != "x86_64":
        raise UsageError(f"packaged kernels are for x86_64, this machine is {machine}; give 'running'")


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
        raise UsageError(f"apt-config cannot read apt's configuration: {_complaint(result)}")
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


def source_text(suite: str, sources: Sequence[Source]) -> str:
    """Return the deb822 source that asks for ``suite`` alone, made from what the machine has configured.

    A suite that is not configured is looked for on the mirror of the one that is, and a security suite on
    the archive of a configured security suite, with the keys of the distribution's keyring besides the
    configured ones. Kernels are in ``main``, which every release has.

    Raises:
        UsageError: no configured archive can have it.
    """
    usable = _official(sources)
    if own := [source for source in usable if suite in source.suites]:
        return "\n".join(_paragraph(suite, source.uris, source.options) for source in own)
    security = _is_security(suite)
    for source in usable:
        if any(_is_security(configured) == security for configured in source.suites):
            return _paragraph(suite, source.uris, _foreign(source.options))
    if security and usable:
        raise UsageError(
            f"{suite} is on the distribution's security archive, and this machine's apt sources name none; "
            "add a *-security suite to them (sources.list(5)), or ask another suite"
        )
    raise UsageError(
        "this machine's apt sources name no archive of the distribution; add one (sources.list(5)), "
        "or give a bzImage, a kernel tree or 'running'"
    )


def kept(suite: str, sources: Sequence[Source]) -> Lists | None:
    """Return the newest kept lists of ``suite``, however old, without running anything; None without any."""
    for generation in _generations(_home(suite, source_text(suite, sources))):
        with contextlib.suppress(FileNotFoundError):
            raw = json.loads((generation / "packages.json").read_text())
            return Lists(suite, generation, tuple(Package(**package) for package in raw))
    return None


def refresh(suite: str, sources: Sequence[Source], progress: Progress, *, older_than: float) -> Lists:
    """Return lists of ``suite`` that are at most ``older_than`` seconds old, fetched when they must be.

    Raises:
        Unreachable: the mirror cannot be reached.
        UsageError: there is no such suite; its signature is not good; no space.
    """
    text = source_text(suite, sources)
    home = _home(suite, text)
    with contextlib.ExitStack() as stack:
        stack.enter_context(cache.explained(home, "keeping package lists"))
        stack.enter_context(cache.locked(home, lambda: progress(f"{suite}: waiting for another run")))
        present = kept(suite, sources)
        if present and present.age <= older_than:
            return present
        progress(f"{suite}: asking the mirror what kernels there are")
        work = stack.enter_context(workplace())
        _update(suite, text, work, present, progress)
        packages = _read_index(work)
        (work / "packages.json").write_text(json.dumps([asdict(package) for package in packages]))
        _keep(work, home)
    fresh = kept(suite, sources)
    assert fresh is not None
    return fresh


def download(lists: Lists, packages: Sequence[Package], into: Path, progress: Progress) -> list[Path]:
    """Fetch ``packages``, checked by apt against the signed index, and return the .deb files.

    Args:
        lists: the suite's lists that name them.
        packages: what to fetch.
        into: an empty directory inside a workplace().
        progress: told what is fetched and how far it is.

    Raises:
        Unreachable: the mirror cannot be reached. Gone: it no longer has one of them.
        UsageError: a file is not what the index says; no space.
    """
    total = sum(package.size for package in packages)
    if (free := shutil.disk_usage(into).free) < total:
        raise UsageError(
            f"no space left in {_place()[0]}: the packages have {_mega(total)}, {_mega(free)} are free; "
            f"free some, or set {_place()[1]} to a directory on a larger disk"
        )
    names = ", ".join(package.name for package in packages)
    progress(f"{lists.suite}: fetching {names} {packages[0].version} ({_mega(total)})")
    into.chmod(0o755)
    if os.geteuid() == 0:
        _give_to_sandbox(into)
    configuration = _configure(into.parent, lists.directory / "source.sources", lists.directory / "lists")
    wanted = [f"{package.name}:{ARCHITECTURE}={package.version}" for package in packages]
    result = process.run(
        ["apt-get", "-c", str(configuration), "-qq", "download", *wanted],
        deadline=DOWNLOAD_DEADLINE, cwd=into, watch=_watcher(lists.suite, into, total, progress),
    )  # fmt: skip
    if result.status:
        raise _explain(lists.suite, result)
    files = [_only(into, package) for package in packages]
    for file, package in zip(files, packages, strict=True):
        if file.stat().st_size != package.size:
            raise UsageError(f"{file.name} has {file.stat().st_size} bytes, the index says {package.size}")
    return files


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Provide an empty directory for apt to work in, removed at the end.

    As root, apt fetches as the user _apt, who must be able to reach it: then it is in the cache only where
    everybody may pass, else in $TMPDIR or /var/tmp. What killed runs left there is removed.

    Raises:
        UsageError: it cannot be made, or is full.
    """
    place, variable = _place()
    with contextlib.ExitStack() as stack:
        stack.enter_context(cache.explained(place, "fetching packages", variable))
        # So that no other run takes the new directory for one that was left, before it is locked.
        with cache.locked(cache.cache_dir() / "workplaces"):
            _sweep(place)
            work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=place))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            work.chmod(0o755)
            fcntl.flock(stack.enter_context((work / "lock").open("w")), fcntl.LOCK_EX)
        yield work


# -- apt's sources -----------------------------------------------------------------------------------------


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
    that path, all are taken.
    """
    usable = [source for source in sources if "main" in source.components]
    path = re.compile(r"/debian(-security)?(/\d{8}T\d{6}Z)?(\.list)?/?$")
    return [
        source for source in usable if any(map(path.search, source.uris)) or any(map(_is_security, source.suites))
    ] or usable


def _is_security(suite: str) -> bool:
    return suite.endswith(("-security", "/updates"))  # the latter up to buster


def _paragraph(suite: str, uris: Sequence[str], options: Mapping[str, str]) -> str:
    fixed = {
        "types": "deb", "uris": " ".join(uris), "suites": suite, "components": "main",
        "architectures": ARCHITECTURE, "languages": "none", "targets": "Packages",
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


# -- lists -------------------------------------------------------------------------------------------------


def _home(suite: str, text: str) -> Path:
    # What is kept of an index belongs to the name: lists of other rules are no lists of ours.
    digest = hashlib.sha256(f"{KEPT_PACKAGES.pattern}\0{text}".encode()).hexdigest()[:8]
    return cache.cache_dir() / "apt" / f"{suite.replace('/', '_')}-{digest}"


def _generations(home: Path) -> list[Path]:
    """Return the generations in ``home``, newest first."""
    names = [path for path in home.glob("*") if path.name.isdigit()]
    return sorted(names, key=lambda path: int(path.name), reverse=True)


def _update(suite: str, text: str, work: Path, present: Lists | None, progress: Progress) -> None:
    (work / "source.sources").write_text(text)
    lists = work / "lists"
    (lists / "partial").mkdir(parents=True)
    if present:
        # apt then asks only for what has changed.
        for file in (present.directory / "lists").iterdir():
            if file.is_file():
                shutil.copy2(file, lists)
    configuration = _configure(work, work / "source.sources", lists)
    result = process.run(
        ["apt-get", "-c", str(configuration), "-qq", "update"],
        deadline=REFRESH_DEADLINE, watch=_watcher(suite, lists, 0, progress),
    )  # fmt: skip
    if result.status or "W: Failed to fetch" in result.errors:
        raise _explain(suite, result)


def _read_index(work: Path) -> list[Package]:
    configuration = str(work / "apt.conf")
    files = process.run(
        ["apt-get", "-c", configuration, "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"],
        deadline=60,
    ).output.split()
    if not files:
        return []  # apt keeps no index of a suite that has no packages
    index = process.run([str(HELPER), "-c", configuration, "cat-file", *files], deadline=120)
    if index.status:
        raise UsageError(f"apt cannot read the index it fetched: {_complaint(index)}")
    return list(dict.fromkeys(_parse_index(index.output)))


def _parse_index(text: str) -> Iterator[Package]:
    # Tens of megabytes, of which a few kilobytes matter: find those before taking anything apart.
    for match in re.finditer(r"^Package: (linux-\S+)$", text, re.MULTILINE):
        if KEPT_PACKAGES.match(match[1]):
            end = text.find("\n\n", match.start())
            stanza = text[match.start() : end if end >= 0 else len(text)]
            fields = dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.MULTILINE))
            if fields.get("Architecture") in (ARCHITECTURE, "all") and "SHA256" in fields:
                size, depends = int(fields["Size"]), fields.get("Depends", "")
                yield Package(match[1], fields["Version"], size, fields["SHA256"], depends)


def _keep(work: Path, home: Path) -> None:
    """Move what a refresh made in ``work`` to a new generation in ``home``, and remove the oldest ones."""
    newest = max((int(path.name) for path in _generations(home)), default=0)

    def move(temporary: Path) -> None:
        for name in ("packages.json", "source.sources"):
            shutil.copyfile(work / name, temporary / name)
        (temporary / "lists").mkdir()
        for file in (work / "lists").iterdir():
            if file.is_file() and file.name != "lock":
                shutil.copy2(file, temporary / "lists")

    cache.entry(home / str(max(int(time.time()), newest + 1)), move)
    for old in _generations(home)[GENERATIONS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
        (home / f"{old.name}.lock").unlink(missing_ok=True)


# -- running apt -------------------------------------------------------------------------------------------


def _configure(work: Path, sources: Path, lists: Path) -> Path:
    configuration = work / "apt.conf"
    configuration.write_text(CONFIGURATION.format(state=work, sources=sources, lists=lists))
    (work / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return configuration


def _watcher(suite: str, directory: Path, total: int, progress: Progress) -> Callable[[float], None]:
    """Return a watch for process.run that says how much has come, and gives up when nothing more comes."""
    came, since, said = -1, 0.0, 0.0

    def watch(elapsed: float) -> None:
        nonlocal came, since, said
        now = _bytes_in(directory)
        if now != came:
            came, since = now, elapsed
        if elapsed - since > STALL_SECONDS:
            raise Unreachable(f"{suite}: nothing came from the mirror for {STALL_SECONDS:.0f} s; try later")
        if elapsed - said >= SAY_EVERY_SECONDS:
            said = elapsed
            progress(f"{suite}: {_mega(now)}" + (f" of {_mega(total)}" if total else ""))

    return watch


def _bytes_in(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total


EXPLANATIONS: Sequence[tuple[str, type[UsageError], str]] = (
    ("does not have a Release file", UsageError,
     "no suite {suite!r} on this machine's mirror (a suite: bookworm, trixie-backports, sid; a file: by its path)"),
    ("NO_PUBKEY", UsageError,
     "the signature of {suite} is by a key this machine does not have; install debian-archive-keyring"),
    ("Missing key", UsageError,  # sqv, which verifies since Debian 13
     "the signature of {suite} is by a key this machine does not have; install debian-archive-keyring"),
    ("EXPKEYSIG", UsageError, "the key that signed {suite} has expired; upgrade debian-archive-keyring"),
    ("BADSIG", UsageError, "the signature of {suite} is wrong, the mirror cannot be trusted: {last}"),
    ("signature verification failed", UsageError,
     "the signature of {suite} is wrong, the mirror cannot be trusted: {last}"),
    ("is not signed", UsageError, "{suite} is not signed, so that nothing from it can be trusted: {last}"),
    ("is expired", UsageError, "the mirror's copy of {suite} is out of date: {last}"),
    ("Hash Sum mismatch", UsageError,
     "{suite}: what came is not what the signed index says (a broken download or mirror); try again"),
    ("unexpected size", UsageError,
     "{suite}: what came is not what the signed index says (a broken download or mirror); try again"),
    ("Undetermined Error", UsageError,  # apt 3, of a file that it copies
     "{suite}: apt knows no reason, most likely what came is not what the signed index says: {last}; try again"),
    ("Unable to find a source", Gone, "{suite}: {last}"),
    ("was not found", Gone, "{suite}: {last}"),
    ("404", Gone, "{suite}: the mirror no longer has what its index names: {last}"),
    ("File not found", Gone, "{suite}: the mirror no longer has what its index names: {last}"),
    ("No such file", Gone, "{suite}: the mirror no longer has what its index names: {last}"),
    ("resolv", Unreachable, "no network, or the mirror of {suite} has no address: {last}"),
    ("onnect", Unreachable, "no network, or the mirror of {suite} does not answer: {last}"),
    ("timed out", Unreachable, "no network, or the mirror of {suite} does not answer: {last}"),
    ("unreachable", Unreachable, "no network: {last}"),
)  # fmt: skip


def _explain(suite: str, result: process.Result) -> Exception:
    """Turn apt's complaint about ``suite`` into the one line that helps."""
    if "No space left on device" in result.errors:
        return OSError(errno.ENOSPC, "No space left on device")  # the workplace says where
    for sign, kind, text in EXPLANATIONS:
        if sign in result.errors:
            return kind(text.format(suite=suite, last=_complaint(result)))
    return UsageError(f"apt-get failed for {suite} (status {result.status}): {_complaint(result)}")


def _complaint(result: process.Result) -> str:
    """Return the first of apt's complaints: the ones after it are consequences."""
    # Both ways of apt to mark them: the short one is apt-get's up to now.
    kinds = ("E:", "Error:"), ("W:", "Warning:")
    lines = [line.strip() for kind in kinds for line in result.errors.splitlines() if line.startswith(kind)]
    telling = [line for line in lines if "Some index files failed" not in line]
    return (telling or lines or result.errors.strip().splitlines()[-1:] or ["it does not say why"])[0]


def _only(directory: Path, package: Package) -> Path:
    found = list(directory.glob(f"{package.name}_*.deb"))
    if len(found) != 1:
        raise UsageError(f"apt-get ended well without bringing {package.name}; try again")
    return found[0]


def _mega(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


# -- places ------------------------------------------------------------------------------------------------


def _place() -> tuple[Path, str]:
    """Return where apt can work, and the environment variable by which the user puts it elsewhere."""
    place = cache.cache_dir()
    if os.geteuid() == 0 and not _passable(place):
        # /var/tmp and not /tmp: this is megabytes, and /tmp may be memory.
        return Path(os.environ.get("TMPDIR") or "/var/tmp"), "TMPDIR"
    return place, cache.ENVIRONMENT_VARIABLE


def _passable(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path.resolve(), *path.resolve().parents))


def _give_to_sandbox(directory: Path) -> None:
    with contextlib.suppress(LookupError, PermissionError):
        shutil.chown(directory, user="_apt")


def _sweep(place: Path) -> None:
    """Remove the directories of runs that were killed: ours, and locked by nobody."""
    for left in place.glob(f"{WORK_PREFIX}*"):
        if left.lstat().st_uid == os.geteuid() and not left.is_symlink():
            with contextlib.suppress(OSError), (left / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
