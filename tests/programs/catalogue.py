"""The programs: of which packages, what each is made to do, and how its result is checked.

What a program answers is compared with another program's answer or with a published one, never with its exit status
alone. A program that says that all is well and is wrong raises AssertionError.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.afalg.privileges import ROOT, SYS_ADMIN
from tests.algorithms.modules import program as find
from tests.doctor import absence
from tests.programs import daemons
from tests.programs.bpf import classifier
from tests.programs.policies import Policy
from tests.programs.session import Result, Session, failed

MIB = 2**20


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
        partner: what it is tried with and needs AF_ALG as well: what holds for the whole machine is not tried then.
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
    partner: str = ""

    def tried_under(self, policy: Policy) -> bool:
        """Say whether a policy can make a difference to it, and who it runs as can run it."""
        if not self.uses:
            return policy.name in ("none", "fips")
        if (self.root and policy.identity != ROOT) or (self.slow and policy.name not in _FEW):
            return False
        if self.partner and (policy.missing or policy.level > 1 or policy.fips):
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


_FEW = ("none", "fips", "level-1,root", "level-1,plain-user", "level-2", "no-af_alg", "seccomp")
"""Policies that tell most."""
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/usr/libexec:/usr/libexec/bluetooth:/usr/lib/ipsec"


# ---- cryptsetup


def _benchmark(session: Session) -> Result:
    done = session.run("cryptsetup", "benchmark", "--cipher", "aes-xts", "--key-size", "256")
    rates = [words for line in done.out.splitlines() if (words := line.split()) and words[0] == "aes-xts"]
    if done.status or not rates or "N/A" in rates[0]:
        return failed(done)
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
            return failed(made)
        opened = session.run(
            *("cryptsetup", "-q", "luksDump", "--dump-volume-key", "--volume-key-file", str(got)),
            *("--key-file", str(word), str(disk)),
        )
        if opened.status:
            return failed(opened)
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
        return failed(made)
    root = next(line.split()[-1] for line in made.out.splitlines() if line.startswith("Root hash"))
    checked = session.run("veritysetup", "verify", str(data), str(tree), root)
    if checked.status:
        return failed(checked)
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
        return failed(made)
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
            return failed(done)
        assert done.out.strip() == expected, done.out
        return Result(True)

    return run


def _random(session: Session) -> Result:
    drawn = []
    for _ in range(2):
        done = session.run("kcapi-rng", "-b", "32", "--hex")
        if done.status or not done.out:
            return failed(done)
        drawn.append(bytes.fromhex(done.out.strip()))
    assert len(drawn[0]) == 32
    assert drawn[0] != drawn[1], "the same number twice"
    return Result(True)


_LONG_PASSWORD = "passphrase of 112 bits and more"
"""FIPS mode takes no shorter key of an HMAC (crypto/hmac.c)."""


def _encrypt(session: Session) -> Result:
    """A key is made of a password (PBKDF2, RFC 8018), and two blocks are encrypted with it: the same as by OpenSSL."""
    plain, got, wanted = (session.place / name for name in ("plain", "got", "wanted"))
    plain.write_bytes(b"data" * 8)
    rule = ("-s", _AES_KEY, "--pbkdfiter", "1000", "-p", _LONG_PASSWORD)
    done = session.run("kcapi-enc", "-c", "cbc(aes)", "--iv", _AES_IV, *rule, "-i", str(plain), "-o", str(got))
    if done.status or not got.exists():
        return failed(done)
    key = hashlib.pbkdf2_hmac("sha256", _LONG_PASSWORD.encode(), bytes.fromhex(_AES_KEY), 1000, 32).hex()
    words = ["-aes-256-cbc", "-K", key, "-iv", _AES_IV, "-nopad", "-in", str(plain), "-out", str(wanted)]
    subprocess.run(["openssl", "enc", *words], check=True, capture_output=True, timeout=120)
    assert got.read_bytes() == wanted.read_bytes(), "what was encrypted is not what OpenSSL makes of it"
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
        return failed(done)
    assert got.read_bytes().hex() == _AES_CBC, got.read_bytes().hex()
    return Result(True, "OpenSSL's own code")


# ---- stress-ng, CPython's tests, QEMU


def _stress(session: Session) -> Result:
    done = session.run("stress-ng", "--af-alg", "1", "--af-alg-ops", "1", "--timeout", "60", "--metrics-brief")
    said = [line.partition("] ")[2] for line in (done.out + done.err).splitlines() if "af-alg" in line]
    if done.status or not any("passed: 1: af-alg" in line for line in said):
        return Result(False, next((line for line in said if "errno" in line or "skip" in line), done.complaint))
    return Result(True, "what it is let")


def _cpython(session: Session) -> Result:
    # Not by python3 -m test, which takes twice as long to begin.
    done = session.run("python3", "-m", "unittest", "-v", "test.test_socket.LinuxKernelCryptoAPI")
    if done.status or not done.err.rstrip().rpartition("\n")[2].startswith("OK"):
        return failed(done)
    return Result(True, "skips those tests")


def _qemu(session: Session) -> Result:
    image, out = session.place / "image", session.place / "plain"
    (session.place / "raw").write_bytes(b"data" * 4096)
    secret = ("--object", "secret,id=s,data=passphrase")
    options = ("-O", "luks", "-o", "key-secret=s,iter-time=10")
    made = session.run("qemu-img", "convert", *secret, "-f", "raw", *options, str(session.place / "raw"), str(image))
    if made.status:
        return failed(made)
    source = f"driver=luks,key-secret=s,file.filename={image}"
    back = session.run("qemu-img", "convert", *secret, "--image-opts", source, "-O", "raw", str(out))
    if back.status:
        return failed(back)
    assert out.read_bytes() == b"data" * 4096, "what was decrypted is not what was encrypted"
    return Result(True)


# ---- strongSwan's plugin af-alg


def _pki(vectors: bool) -> Callable[[Session], Result]:
    """The identity of a key is a SHA-1, which the first plugin makes that has one.

    Args:
        vectors: everything that the plugin af-alg has is tried with published vectors first, by the plugin
            test-vectors; what gives something else is not taken.
    """

    # With vectors, no plugin that has Diffie-Hellman by numbers of 8192 bits: they are tried as well, for a minute.
    kind, load, fallback = (
        "ed25519",
        "test-vectors af-alg pkcs8 pem curve25519 sha1 sha2 random",
        "its plugins sha1, sha2",
    )
    if not vectors:
        kind, load, fallback = "rsa", "af-alg pkcs1 pkcs8 pem gmp openssl random", "its plugin openssl"

    def run(session: Session) -> Result:
        key, config = session.place / "key", session.place / "strongswan.conf"
        private, public = _key_pair(kind)
        key.write_bytes(private)
        tried = "libstrongswan { crypto_test { on_add = yes } }\n" if vectors else ""
        config.write_text(f"{tried}pki {{ load = {load} }}\n")
        session.environment["STRONGSWAN_CONF"] = str(config)
        # It knows this kind of key, but not the word for it.
        word = "priv" if vectors else kind
        done = session.run("pki", "--keyid", "--type", word, "--in", str(key), "--debug", "1")
        said = [line.strip().replace(":", "") for line in done.out.splitlines() if line.startswith("   ")]
        if done.status or len(said) < 2:
            return failed(done)
        assert said[1] == hashlib.sha1(public).hexdigest(), done.out
        wrong = [line for line in done.err.splitlines() if "[af-alg]" in line and "failed" in line]
        if absence.fips_mode() and wrong and all("HMAC" in line for line in wrong):
            # The vectors of RFC 2202 and 4231 have keys of 4 bytes, which are too short then (NIST SP 800-131A).
            return Result(False, wrong[0].strip())
        assert not wrong, wrong
        return Result(True, fallback)

    return run


@functools.cache
def _key_pair(kind: str) -> tuple[bytes, bytes]:
    """Return a key and its public part, both in DER; made once a machine, which takes an emulated one seconds."""
    made: list[bytes] = []
    size = ["-pkeyopt", "rsa_keygen_bits:1024"] if kind == "rsa" else []
    for words in (
        ["genpkey", "-algorithm", kind, *size, "-outform", "DER"],
        ["pkey", "-inform", "DER", "-pubout", "-outform", "DER"],
    ):
        given = made[0] if made else None
        done = subprocess.run(["openssl", *words], input=given, check=True, capture_output=True, timeout=120)
        made.append(done.stdout)
    return made[0], made[1]


# ---- tc of iproute2


def _filter(session: Session) -> Result:
    """tc names what it pins by a hash of the object file; that the kernel has the program, the kernel says."""
    (session.place / "program.o").write_bytes(classifier())
    for words in (["link", "add", "programs0", "type", "dummy"], ["link", "set", "programs0", "up"]):
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)
    try:
        subprocess.run(
            ["tc", "qdisc", "add", "dev", "programs0", "clsact"], check=True, capture_output=True, timeout=60
        )
        where = ("dev", "programs0", "ingress")
        done = session.run("tc", "filter", "add", *where, "bpf", "da", "obj", "program.o", "sec", "classifier")
        words = ["tc", "filter", "show", *where]
        shown = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout
    finally:
        subprocess.run(["ip", "link", "del", "programs0"], check=True, capture_output=True, timeout=60)
    return Result(True) if "program.o:[classifier]" in shown and not done.status else failed(done)


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
    Program("kcapi-enc", ("kcapi-tools", "openssl"), _encrypt, types=("skcipher", "hash"), everybody=False,
            needs=("kcapi-enc", "openssl")),
    Program(
        "openssl afalg", ("openssl",), _engine, types=("skcipher",), everybody=False, needs=("openssl",),
    ),
    Program("stress-ng", ("stress-ng",), _stress, types=("skcipher", "hash", "aead", "rng"), needs=("stress-ng",),
            slow=True),
    Program("iwd start", ("iwd", "dbus-daemon"), daemons.starts, types=("skcipher", "hash"), root=True, everybody=False,
            needs=("iwd",), modules=("mac80211_hwsim",)),
    Program("iwd WPA2", ("iwd", "hostapd", "dbus-daemon"), daemons.wireless("WPA-PSK", 0), types=("skcipher", "hash"),
            root=True, everybody=False, needs=("iwd", "hostapd"), modules=("mac80211_hwsim",), slow=True),
    Program("iwd WPA3", ("iwd", "hostapd", "dbus-daemon"), daemons.wireless("SAE", 2), types=("skcipher", "hash"),
            root=True, everybody=False, needs=("iwd", "hostapd"), modules=("mac80211_hwsim",), slow=True),
    Program("bluetooth-meshd", ("bluez-meshd", "dbus-daemon"), daemons.mesh, types=("aead",), root=True,
            everybody=False, needs=("bluetooth-meshd",)),
    Program("bluetoothd", ("bluez", "bluez-test-tools", "dbus-daemon"), daemons.controller, types=("skcipher", "hash"),
            root=True, everybody=False, needs=("bluetoothd", "btvirt"), modules=("hci_vhci",), partner="btvirt"),
    Program("bluez smp-tester", ("bluez-test-tools",), daemons.pairing, types=("skcipher", "hash"), root=True,
            everybody=False, needs=("smp-tester",), modules=("hci_vhci",)),
    Program("tc filter bpf", ("iproute2",), _filter, types=("hash",), root=True, everybody=True,
            needs=("tc", "ip"), modules=("dummy", "sch_ingress", "cls_bpf"), fallback="no hash of the object file"),
    Program("hostapd, wpa_supplicant WPA3", ("wpasupplicant", "hostapd"), daemons.supplicant, uses=False,
            needs=("wpa_supplicant", "hostapd"), modules=("mac80211_hwsim",)),
    Program("CPython test_socket", ("libpython3.13-testsuite",), _cpython, types=("skcipher", "hash", "aead", "rng"),
            needs=("python3",), slow=True),
    Program("strongSwan pki", ("strongswan-pki", "libstrongswan-extra-plugins", "openssl"), _pki(False),
            types=("hash",), everybody=True, needs=("pki", "openssl")),
    Program("strongSwan vectors", ("strongswan-pki", "libstrongswan-extra-plugins", "openssl"), _pki(True),
            types=("skcipher", "hash"), needs=("pki", "openssl"), slow=True),
    Program("strongSwan charon", ("charon-systemd", "strongswan-swanctl", "libstrongswan-extra-plugins", "iproute2"),
            daemons.tunnel, types=("skcipher", "hash"), root=True, needs=("charon-systemd", "swanctl", "ip"),
            modules=("veth", "xfrm_user", "esp4")),
    Program("qemu-img LUKS", ("qemu-utils",), _qemu, uses=False, needs=("qemu-img",)),
)  # fmt: skip
NOT_TRIED = {
    "sha512hmac and its like (libkcapi)": "not in Debian's kcapi-tools: it has kcapi-dgst, -enc and -rng",
    "LTP": "not packaged",
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
