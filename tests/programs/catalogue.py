"""The programs: of which packages, what each is made to do, and how its result is checked.

What a program answers is compared with another program's answer or with a published one, never with its exit status
alone. A program that says that all is well and is wrong raises AssertionError.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.afalg.privileges import ROOT, SYS_ADMIN
from tests.algorithms.modules import program as find
from tests.programs.policies import Policy
from tests.programs.session import Done, Session

MIB = 2**20


@dataclass(frozen=True)
class Result:
    """What came of a program.

    Attributes:
        ok: its result is there and right.
        said: where it is not, in what words; where it is, to what it fell back, if that was seen.
    """

    ok: bool
    said: str = ""


@dataclass(frozen=True)
class Program:
    """One program, made to do one thing.

    Attributes:
        name: for ids and the table.
        packages: Debian packages that it needs.
        run: does it, and checks the result.
        uses: whether it uses AF_ALG.
        types: of sockets that it needs.
        root: whether only root can run it.
        everybody: whether what it uses is in level 1's list for everybody (crypto/af_alg.c of Linux 7.3), and not only
            in that for who has a capability; None where it is in neither.
        needs: files that it is run from, or made of.
        fallback: what it does without AF_ALG, in words.
        modules: of the kernel, that it needs and nothing loads.
        generator: name of the rng that it needs, which not every kernel has.
        slow: whether it is tried under few policies only.
    """

    name: str
    packages: tuple[str, ...]
    run: Callable[[Session], Result]
    uses: bool = True
    types: tuple[str, ...] = ()
    root: bool = False
    everybody: bool | None = None
    needs: tuple[str, ...] = ()
    fallback: str = "code of its own"
    modules: tuple[str, ...] = ()
    generator: str = ""
    slow: bool = False

    def tried_under(self, policy: Policy) -> bool:
        """Say whether a policy can make a difference to it, and who it runs as can run it."""
        if not self.uses:
            return policy.name == "none"
        if (self.root and policy.identity != ROOT) or (self.slow and policy.name not in _FEW):
            return False
        return not policy.types or len(policy.missing) > 1 or any(type_ in self.types for type_ in policy.types)

    def promised(self, policy: Policy) -> bool:
        """Say whether the kernel's documentation promises that it works: level 1, for those whom its lists name."""
        if policy.level != 1 or self.everybody is None:
            return False
        return self.everybody or policy.identity in (ROOT, SYS_ADMIN)

    def absent(self) -> str:
        """Return which of its files are not there, or an empty text."""
        missing = [name for name in self.needs if not shutil.which(name, path=_PATH)]
        return f"{', '.join(missing)} is in no package of this root" if missing else ""

    def lacks(self) -> str:
        """Return what the kernel lacks to run it, or an empty text; loads its modules."""
        for module in self.modules:
            if subprocess.run([str(find("modprobe")), module], capture_output=True, timeout=120).returncode:
                return f"the kernel has no module {module}"
        return ""


_FEW = ("none", "level-1,root", "level-1,plain-user", "level-2", "no-af_alg", "seccomp")
"""Policies that tell most."""
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/usr/libexec:/usr/libexec/bluetooth:/usr/lib/ipsec"


def _failed(done: Done) -> Result:
    return Result(False, done.complaint)


# ---- cryptsetup


def _benchmark(session: Session) -> Result:
    done = session.run("cryptsetup", "benchmark", "--cipher", "aes-xts", "--key-size", "256")
    rates = [words for line in done.out.splitlines() if (words := line.split()) and words[0] == "aes-xts"]
    if done.status or not rates or "N/A" in rates[0]:
        return _failed(done)
    assert float(rates[0][2]) > 0, rates
    return Result(True)


def _luks(cipher: str, bits: int) -> Callable[[Session], Result]:
    """Return what makes a LUKS2 header with a volume key of ours, and gets the key back by the passphrase."""

    def run(session: Session) -> Result:
        disk, key, got, word = (session.place / name for name in ("disk", "key", "got", "word"))
        key.write_bytes(bytes(range(bits // 8)))
        word.write_bytes(b"passphrase")
        with open(disk, "wb") as file:
            file.truncate(20 * MIB)
        for file_ in (disk, key, word):
            file_.chmod(0o666)
        before = _devices_made()
        quick = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--luks2-keyslots-size", "512k")
        made = session.run(
            *("cryptsetup", "-q", "luksFormat", "--type", "luks2", "--cipher", cipher, "--key-size", str(bits)),
            *(*quick, "--volume-key-file", str(key), str(disk), str(word)),
        )
        if made.status:
            return _failed(made)
        opened = session.run(
            *("cryptsetup", "-q", "luksDump", "--dump-volume-key", "--volume-key-file", str(got)),
            *("--key-file", str(word), str(disk)),
        )
        if opened.status:
            return _failed(opened)
        assert got.read_bytes() == key.read_bytes(), "the volume key that came back is another one"
        return Result(True, "temporary dm-crypt devices" if _devices_made() > before else "")

    return run


def _devices_made() -> int:
    """Return a number that grows with every device that the kernel makes."""
    return int(Path("/sys/kernel/uevent_seqnum").read_text())


def _verity(session: Session) -> Result:
    data, tree = session.place / "data", session.place / "tree"
    data.write_bytes(b"data" * MIB)
    made = session.run("veritysetup", "format", str(data), str(tree))
    if made.status:
        return _failed(made)
    root = next(line.split()[-1] for line in made.out.splitlines() if line.startswith("Root hash"))
    checked = session.run("veritysetup", "verify", str(data), str(tree), root)
    if checked.status:
        return _failed(checked)
    with open(data, "r+b") as file:
        file.write(b"other")
    assert session.run("veritysetup", "verify", str(data), str(tree), root).status, "changed data were verified"
    return Result(True)


def _integrity(session: Session) -> Result:
    disk = session.place / "disk"
    with open(disk, "wb") as file:
        file.truncate(8 * MIB)
    made = session.run("integritysetup", "-q", "format", "--integrity", "hmac-sha256", "--no-wipe", str(disk), *_KEY)
    # The tags are made by dm-integrity, in the kernel: this makes its superblock.
    if made.status:
        return _failed(made)
    dumped = session.run("integritysetup", "dump", str(disk))
    return Result("tag_size" in dumped.out, dumped.complaint)


_KEY = ("--integrity-key-file", "/dev/zero", "--integrity-key-size", "32")

# ---- libkcapi

_ABC_SHA1 = "a9993e364706816aba3e25717850c26c9cd0d89d"
_ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""Of "abc": FIPS 180-4, by its examples."""


def _digest(name: str, expected: str) -> Callable[[Session], Result]:
    def run(session: Session) -> Result:
        (session.place / "abc").write_bytes(b"abc")
        done = session.run("kcapi-dgst", "-c", name, "--hex", "-i", str(session.place / "abc"))
        if done.status or not done.out:
            return _failed(done)
        assert done.out.strip() == expected, done.out
        return Result(True)

    return run


def _random(session: Session) -> Result:
    drawn = []
    for _ in range(2):
        done = session.run("kcapi-rng", "-b", "32", "--hex")
        if done.status or not done.out:
            return _failed(done)
        drawn.append(bytes.fromhex(done.out.strip()))
    assert len(drawn[0]) == 32
    assert drawn[0] != drawn[1], "the same number twice"
    return Result(True)


# ---- OpenSSL's engine afalg

_AES_KEY, _AES_IV = "2b7e151628aed2a6abf7158809cf4f3c", "000102030405060708090a0b0c0d0e0f"
_AES_PLAIN, _AES_CBC = "6bc1bee22e409f96e93d7e117393172a", "7649abac8119b246cee98e9b12e9197d"
"""SP 800-38A, F.2.1."""


def _engine(session: Session) -> Result:
    plain, got = session.place / "plain", session.place / "got"
    plain.write_bytes(bytes.fromhex(_AES_PLAIN))
    words = ("-K", _AES_KEY, "-iv", _AES_IV, "-nopad", "-in", str(plain), "-out", str(got))
    done = session.run("openssl", "enc", "-engine", "afalg", "-aes-128-cbc", *words)
    if done.status:
        return _failed(done)
    assert got.read_bytes().hex() == _AES_CBC, got.read_bytes().hex()
    return Result(True, "OpenSSL's own code")


# ---- stress-ng, CPython's tests, QEMU


def _stress(session: Session) -> Result:
    done = session.run("stress-ng", "--af-alg", "1", "--af-alg-ops", "5", "--timeout", "60", "--metrics-brief")
    said = [line.partition("] ")[2] for line in (done.out + done.err).splitlines() if "af-alg" in line]
    if done.status or not any("passed: 1: af-alg" in line for line in said):
        return Result(False, next((line for line in said if "errno" in line or "skip" in line), done.complaint))
    return Result(True, "what it is let")


def _cpython(session: Session) -> Result:
    done = session.run("python3", "-m", "test", "test_socket", "-m", "*LinuxKernelCryptoAPI*", "-v", seconds=200)
    if done.status or "Result: SUCCESS" not in done.out:
        return _failed(done)
    return Result(True, "skips those tests")


def _qemu(session: Session) -> Result:
    image, out = session.place / "image", session.place / "plain"
    (session.place / "raw").write_bytes(b"data" * 4096)
    secret = ("--object", "secret,id=s,data=passphrase")
    options = ("-O", "luks", "-o", "key-secret=s,iter-time=10")
    made = session.run("qemu-img", "convert", *secret, "-f", "raw", *options, str(session.place / "raw"), str(image))
    if made.status:
        return _failed(made)
    source = f"driver=luks,key-secret=s,file.filename={image}"
    back = session.run("qemu-img", "convert", *secret, "--image-opts", source, "-O", "raw", str(out))
    if back.status:
        return _failed(back)
    assert out.read_bytes() == b"data" * 4096, "what was decrypted is not what was encrypted"
    return Result(True)


# ---- strongSwan's plugin af-alg


def _pki(session: Session) -> Result:
    """The identity of a key is a SHA-1, which the first plugin makes that has one."""
    key, public, config = (session.place / name for name in ("key", "public", "strongswan.conf"))
    for words in (
        ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-outform", "DER", "-out", str(key)],
        ["pkey", "-in", str(key), "-inform", "DER", "-pubout", "-outform", "DER", "-out", str(public)],
    ):
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=120)
    key.chmod(0o644)
    config.write_text("pki { load = af-alg pkcs1 pkcs8 pem gmp openssl random }\n")
    session.environment["STRONGSWAN_CONF"] = str(config)
    done = session.run("pki", "--keyid", "--type", "rsa", "--in", str(key))
    said = [line.strip().replace(":", "") for line in done.out.splitlines() if line.startswith("   ")]
    if done.status or len(said) < 2:
        return _failed(done)
    assert said[1] == hashlib.sha1(public.read_bytes()).hexdigest(), done.out
    return Result(True, "its plugin openssl")


# ---- daemons on a bus

_BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy></busconfig>
"""


@contextlib.contextmanager
def _bus(session: Session) -> Iterator[None]:
    """Have a message bus, as a system has one, during the block; it is not recorded, and under no policy."""
    socket, config = session.place / "bus", session.place / "bus.conf"
    config.write_text(_BUS.format(socket=socket))
    words = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as bus:
        try:
            assert bus.stdout is not None
            assert bus.stdout.readline(), "dbus-daemon did not begin"
            session.environment["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={socket}"
            yield
        finally:
            bus.terminate()


def _mesh(session: Session) -> Result:
    """bluetooth-meshd tries its algorithms with a known answer before it asks for anything."""
    with _bus(session), session.started("/usr/libexec/bluetooth/bluetooth-meshd", "--nodetach", "--debug") as daemon:
        # It does not end when it has none.
        daemon.wait_for(120, "D-Bus ready", "Mesh Crypto functions unavailable")
        done = daemon.done
        return Result(True) if "D-Bus ready" in done.out + done.err else _failed(done)


_ACCESS_POINT = """\
interface={interface}
driver=nl80211
ssid=net
hw_mode=g
channel=1
wpa=2
wpa_key_mgmt={management}
ieee80211w={protection}
rsn_pairwise=CCMP
wpa_passphrase=passphrase
"""


def _wireless(management: str, protection: int) -> Callable[[Session], Result]:
    """Return what connects iwd by radio to hostapd, whose cryptography is OpenSSL's."""

    def run(session: Session) -> Result:
        # As they were before the daemons that had them last.
        subprocess.run([str(find("rmmod")), "mac80211_hwsim"], capture_output=True, timeout=60)
        subprocess.run([str(find("modprobe")), "mac80211_hwsim"], check=True, timeout=60)
        interfaces = sorted(path.name for path in Path("/sys/class/net").glob("wlan*"))
        config = session.place / "hostapd.conf"
        words = {"interface": interfaces[0], "management": management, "protection": protection}
        config.write_text(_ACCESS_POINT.format(**words))
        known = Path("/var/lib/iwd/net.psk")
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text("[Security]\nPassphrase=passphrase\n")
        point = Session(session.place / "point", ROOT)
        point.place.mkdir()
        daemon = "/usr/libexec/iwd"
        with _bus(session), point.started("hostapd", str(config)) as hostapd:
            assert hostapd.wait_for(60, "AP-ENABLED"), hostapd.done
            with session.started(daemon, "--nointerfaces", interfaces[0], "--debug") as iwd:
                # The other side knows whether the keys are equal. A slow machine takes more than one try.
                if not iwd.wait_for(60, "Wireless daemon version"):
                    return _failed(iwd.done)
                connected = hostapd.wait_for(240, "EAPOL-4WAY-HS-COMPLETED")
                return Result(connected, "" if connected else f"hostapd: {hostapd.done.complaint}")

    return run


def _starts(session: Session) -> Result:
    """iwd asks the kernel for its algorithms when it begins, and ends where one that it needs is not there."""
    with _bus(session), session.started("/usr/libexec/iwd", "--debug") as iwd:
        if iwd.wait_for(90, "manager_wiphy_dump_done", "Wireless daemon version") and not iwd.ended(3):
            return Result(True)
        return _failed(iwd.done)


_LUKS = ("cryptsetup-bin",)
_LUKS_MODULES = ("dm-mod", "loop")

PROGRAMS = (
    Program("cryptsetup benchmark", _LUKS, _benchmark, types=("skcipher",), everybody=True, needs=("cryptsetup",)),
    *(
        Program(
            f"cryptsetup LUKS2 {name}",
            _LUKS,
            _luks(cipher, bits),
            uses=name != "aes-xts",
            types=("skcipher",),
            everybody=True,
            needs=("cryptsetup",),
            modules=_LUKS_MODULES,
            slow=name != "adiantum",
        )
        for name, cipher, bits in (
            ("aes-xts", "aes-xts-plain64", 512),
            ("serpent-xts", "serpent-xts-plain64", 256),
            ("twofish-xts", "twofish-xts-plain64", 256),
            ("adiantum", "xchacha12,aes-adiantum-plain64", 256),
        )
    ),
    Program("veritysetup", _LUKS, _verity, uses=False, needs=("veritysetup",)),
    Program("integritysetup", _LUKS, _integrity, uses=False, needs=("integritysetup",), modules=_LUKS_MODULES),
    Program(
        "kcapi-dgst sha256", ("kcapi-tools",), _digest("sha256", _ABC_SHA256), types=("hash",), everybody=False,
        needs=("kcapi-dgst",),
    ),
    Program(
        "kcapi-dgst sha1", ("kcapi-tools",), _digest("sha1", _ABC_SHA1), types=("hash",), everybody=True,
        needs=("kcapi-dgst",),
    ),
    Program("kcapi-rng", ("kcapi-tools",), _random, types=("rng",), needs=("kcapi-rng",), generator="stdrng"),
    Program(
        "openssl afalg", ("openssl",), _engine, types=("skcipher",), everybody=False, needs=("openssl",),
    ),
    Program("stress-ng", ("stress-ng",), _stress, types=("skcipher", "hash", "aead", "rng"), needs=("stress-ng",),
            slow=True),
    Program("iwd start", ("iwd", "dbus-daemon"), _starts, types=("skcipher", "hash"), root=True, everybody=False,
            needs=("iwd",), modules=("mac80211_hwsim",)),
    Program("iwd WPA2", ("iwd", "hostapd", "dbus-daemon"), _wireless("WPA-PSK", 0), types=("skcipher", "hash"),
            root=True, everybody=False, needs=("iwd", "hostapd"), modules=("mac80211_hwsim",), slow=True),
    Program("iwd WPA3", ("iwd", "hostapd", "dbus-daemon"), _wireless("SAE", 2), types=("skcipher", "hash"),
            root=True, everybody=False, needs=("iwd", "hostapd"), modules=("mac80211_hwsim",), slow=True),
    Program("bluetooth-meshd", ("bluez-meshd", "dbus-daemon"), _mesh, types=("aead",), root=True, everybody=False,
            needs=("bluetooth-meshd",)),
    Program("CPython test_socket", ("libpython3.13-testsuite",), _cpython, types=("skcipher", "hash", "aead", "rng"),
            needs=("python3",), slow=True),
    Program("strongSwan pki", ("strongswan-pki", "libstrongswan-extra-plugins", "openssl"), _pki, types=("hash",),
            everybody=True, needs=("pki", "openssl")),
    Program("qemu-img LUKS", ("qemu-utils",), _qemu, uses=False, needs=("qemu-img",)),
)  # fmt: skip
NOT_TRIED = {
    "sha512hmac and its like (libkcapi)": "not in Debian's kcapi-tools: it has kcapi-dgst, -enc and -rng",
    "LTP": "not packaged",
    "bluetoothd": "makes no AF_ALG socket while it has no controller; with one it was not tried",
    "tc of iproute2": "needs an object file of BPF, and a compiler for it",
    "charon of strongSwan": "binds what its plugin af-alg has when it begins; no connection was tried",
}
"""What people ask for besides, and why it is not here."""
BY_NAME = {program.name: program for program in PROGRAMS}


def packages(suite: str, words: Sequence[str] = ()) -> list[str]:
    """Return the Debian packages that the programs need.

    Args:
        suite: the release that they are of; empty for the newest stable one.
        words: only of programs with one of these in their name; of all when there is none.
    """
    python = {"bookworm": "3.11"}.get(suite, "3.13")
    chosen = [each for each in PROGRAMS if not words or any(word in each.name for word in words)]
    names = {name.replace("3.13", python) for each in chosen for name in each.packages}
    return sorted({*names, "apparmor"})
