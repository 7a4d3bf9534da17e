"""Running apt, in directories of its own: the system's lists and packages are neither read nor changed.

apt does the fetching and the checking of signatures; what it complains of becomes the one line that helps.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vm.base import arch, cache, process
from vm.base.errors import UsageError
from vm.base.progress import Progress

ARCHITECTURE = arch.default().debian
PROGRAMS = ("apt-get", "apt-config", "dpkg-deb")
WORK_PREFIX = "af-alg-tests.apt."
STALL_SECONDS = 120.0
SAY_EVERY_SECONDS = 5.0

# Whatever the machine says otherwise: lists of this suite only, no hooks that look at the running system, no
# unsigned archives (one that is meant to be trusted without a signature says so itself: trusted=yes).
CONFIGURATION = """\
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
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


class NoSuite(UsageError):
    """The mirror has no suite of that name."""


class Gone(UsageError):
    """The lists name a package that the mirror no longer has: newer lists may help."""


# What apt says, the error that it means, and how that is said here: the first that fits counts.
EXPLANATIONS: Sequence[tuple[str, type[UsageError], str]] = (
    ("does not have a Release file", NoSuite,
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
    ("is not valid yet", UsageError, "{suite} is signed in the future, so this machine's clock is behind: {last}"),
    ("is expired", UsageError, "the mirror's copy of {suite} is out of date, or this machine's clock ahead: {last}"),
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
            "give an image, a kernel tree or 'running' instead"
        )
    if (machine := os.uname().machine) not in (known := arch.default()).hosts:
        raise UsageError(f"packaged kernels are for {known.name}, this machine is {machine}; give 'running'")


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


def configure(work: Path, sources: Path, lists: Path, architecture: str = ARCHITECTURE) -> Path:
    """Write a configuration for apt to work in ``work``, and return its file.

    Args:
        work: a directory inside a workplace(), or one itself.
        sources: the file with the sources to ask.
        lists: the directory with their lists.
        architecture: of the packages, by Debian's name.
    """
    configuration = work / "apt.conf"
    configuration.write_text(CONFIGURATION.format(state=work, sources=sources, lists=lists, architecture=architecture))
    (work / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return configuration


def run(
    suite: str, configuration: Path, words: Sequence[str], into: Path, size: int, deadline: float, progress: Progress
) -> None:
    """Run apt-get until what it fetches is there.

    Args:
        suite: for messages.
        configuration: of configure().
        words: apt-get's command and what comes after it.
        into: the directory that fills: its working directory.
        size: bytes that will come; 0 when that is not known.
        deadline: seconds.
        progress: told how far it is.

    Raises:
        Unreachable: the mirror cannot be reached. Gone: it no longer has what was asked for.
        UsageError: there is no such suite; a signature or a file is not good.
        OSError: no space.
    """
    result = process.run(
        ["apt-get", "-c", str(configuration), "-qq", *words],
        deadline=deadline, cwd=into, watch=_watcher(suite, into, size, progress),
    )  # fmt: skip
    if result.status or "W: Failed to fetch" in result.errors:
        raise _explain(suite, result)


def require_room(directory: Path, size: int) -> None:
    """Check that ``directory``, inside a workplace(), has room for packages of ``size`` bytes.

    Raises:
        UsageError: it has not.
    """
    if (free := shutil.disk_usage(directory).free) < size:
        place, variable = _place()
        raise UsageError(
            f"no space left in {place}: the packages have {mega(size)}, {mega(free)} are free; "
            f"free some, or set {variable} to a directory on a larger disk"
        )


def complaint(result: process.Result) -> str:
    """Return the first of apt's complaints: the ones after it are consequences."""
    # Both ways of apt to mark them: the short one is apt-get's up to now.
    kinds = ("E:", "Error:"), ("W:", "Warning:")
    lines = [line.strip() for kind in kinds for line in result.errors.splitlines() if line.startswith(kind)]
    telling = [line for line in lines if "Some index files failed" not in line]
    return (telling or lines or result.errors.strip().splitlines()[-1:] or ["it does not say why"])[0]


def mega(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


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
            progress(f"{suite}: {mega(now)}" + (f" of {mega(total)}" if total else ""))

    return watch


def _bytes_in(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total


def _explain(suite: str, result: process.Result) -> Exception:
    """Turn apt's complaint about ``suite`` into the one line that helps."""
    if process.ran_out_of_space(result.errors):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the workplace says where
    for sign, kind, text in EXPLANATIONS:
        if sign in result.errors:
            return kind(text.format(suite=suite, last=complaint(result)))
    return UsageError(f"apt-get failed for {suite} (status {result.status}): {complaint(result)}")


def _place() -> tuple[Path, str]:
    """Return where apt can work, and the environment variable by which the user puts it elsewhere."""
    place = cache.cache_dir()
    if os.geteuid() == 0 and not _passable(place):
        # /var/tmp and not /tmp: this is megabytes, and /tmp may be memory.
        return Path(os.environ.get("TMPDIR") or "/var/tmp"), "TMPDIR"
    return place, cache.ENVIRONMENT_VARIABLE


def _passable(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path.resolve(), *path.resolve().parents))


def _sweep(place: Path) -> None:
    """Remove the directories of runs that were killed: ours, and locked by nobody."""
    for left in place.glob(f"{WORK_PREFIX}*"):
        if left.lstat().st_uid == os.geteuid() and not left.is_symlink():
            with contextlib.suppress(OSError), (left / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
