"""Daemons, and what they talk to: a message bus, virtual radios of Wi-Fi and Bluetooth, a network, a peer.

What is only there to be talked to is neither recorded nor under a policy.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.afalg.privileges import ROOT
from tests.algorithms.modules import program as find
from tests.programs.session import Result, Running, Session, failed

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
    """Have a message bus, as a system has one, during the block."""
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


# ---- Bluetooth


def mesh(session: Session) -> Result:
    """bluetooth-meshd tries its algorithms with a known answer before it asks for anything."""
    with _bus(session), session.started("/usr/libexec/bluetooth/bluetooth-meshd", "--nodetach", "--debug") as daemon:
        # It does not end when it has none.
        daemon.wait_for(120, "D-Bus ready", "Mesh Crypto functions unavailable")
        done = daemon.done
        return Result(True) if "D-Bus ready" in done.out + done.err else failed(done)


def pairing(session: Session) -> Result:
    """BlueZ's own pairing (src/shared/crypto.c) with the kernel's, which has its own code, by a virtual controller.

    Either side refuses values that the other has computed wrongly.
    """
    done = session.run("smp-tester")
    said = re.sub(r"\x1b\[[\d;]*m", "", done.out)
    counted = re.search(r"^Total: (\d+), Passed: (\d+)", said, re.MULTILINE)
    if counted is None:
        return failed(done)
    total, passed = int(counted[1]), int(counted[2])
    assert total >= 8, said[-300:]
    return Result(passed == total, f"{passed} of {total} pairings" if passed != total else "")


def controller(session: Session) -> Result:
    """bluetoothd with a virtual controller, which it switches on."""
    peer = Session(session.place / "peer", ROOT)
    peer.place.mkdir()
    (session.place / "main.conf").write_text("[Policy]\nAutoEnable=true\n")
    words = ("--nodetach", "--debug", f"--configfile={session.place}/main.conf")
    with (
        _bus(session),
        peer.started("btvirt", "-l1"),
        session.started("/usr/libexec/bluetooth/bluetoothd", *words) as bluetoothd,
    ):
        enabled = bluetoothd.wait_for(120, "has been enabled")
        return Result(True, "no hash of its GATT database") if enabled else failed(bluetoothd.done)


# ---- Wi-Fi

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
_STATION = """\
network={{
ssid="net"
key_mgmt={management}
ieee80211w={protection}
psk="passphrase"
}}
"""
# What failed on a busy machine is tried again soon, and not after a minute, and later than that.
_IWD = """\
[Blacklist]
InitialTimeout=1
Multiplier=1
MaximumTimeout=1
[Scan]
InitialPeriodicScanInterval=3
MaximumPeriodicScanInterval=3
"""


def _radios() -> list[str]:
    """Return the interfaces of two virtual radios that nobody has used before."""
    loaded = Path("/sys/module/mac80211_hwsim").exists()
    for words in [["rmmod", "mac80211_hwsim"]] * loaded + [["modprobe", "mac80211_hwsim", "radios=2"]]:
        subprocess.run([str(find(words[0])), *words[1:]], check=True, capture_output=True, timeout=120)
    interfaces = sorted(path.name for path in Path("/sys/class/net").glob("wlan*"))
    assert len(interfaces) == 2, interfaces
    return interfaces


@contextlib.contextmanager
def _access_point(session: Session, interface: str, management: str, protection: int) -> Iterator[Running]:
    config = session.place / "hostapd.conf"
    config.write_text(_ACCESS_POINT.format(interface=interface, management=management, protection=protection))
    with session.started("hostapd", str(config)) as hostapd:
        assert hostapd.wait_for(60, "AP-ENABLED"), hostapd.done
        yield hostapd


def wireless(management: str, protection: int) -> Callable[[Session], Result]:
    """Return what connects iwd by radio to hostapd, whose cryptography is OpenSSL's."""

    def run(session: Session) -> Result:
        radio = _radios()[0]
        _configure(session)
        (session.place / "iwd/net.psk").write_text("[Security]\nPassphrase=passphrase\n")
        point = Session(session.place / "point", ROOT)
        point.place.mkdir()
        with (
            _bus(session),
            _access_point(point, radio, management, protection) as hostapd,
            session.started("/usr/libexec/iwd", "--nointerfaces", radio, "--debug") as iwd,
        ):
            if not iwd.wait_for(60, "Wireless daemon version"):
                return failed(iwd.done)
            # The other side knows whether the keys are equal. A slow machine takes more than one try.
            connected = hostapd.wait_for(600, "EAPOL-4WAY-HS-COMPLETED")
            return Result(connected, "" if connected else f"hostapd: {hostapd.done.complaint}")

    return run


def _configure(session: Session) -> None:
    """Give iwd directories of its own, so that it knows of no network and no failure of another run."""
    (session.place / "iwd").mkdir()
    (session.place / "iwd/main.conf").write_text(_IWD)
    for name in ("CONFIGURATION_DIRECTORY", "STATE_DIRECTORY"):
        session.environment[name] = str(session.place / "iwd")


def starts(session: Session) -> Result:
    """iwd asks the kernel for its algorithms when it begins, and ends where one that it needs is not there."""
    _configure(session)
    with _bus(session), session.started("/usr/libexec/iwd", "--debug") as iwd:
        if iwd.wait_for(90, "manager_wiphy_dump_done", "Wireless daemon version") and not iwd.ended(3):
            return Result(True)
        return failed(iwd.done)


def supplicant(session: Session) -> Result:
    """hostapd and wpa_supplicant by WPA3, whose cryptography is OpenSSL's: both recorded."""
    first, second = _radios()
    config = session.place / "wpa.conf"
    config.write_text(_STATION.format(management="SAE", protection=2))
    with (
        _access_point(session, first, "SAE", 2),
        session.started("wpa_supplicant", "-D", "nl80211", "-i", second, "-c", str(config)) as station,
    ):
        connected = station.wait_for(600, "CTRL-EVENT-CONNECTED")
        return Result(connected, "" if connected else station.done.complaint)


# ---- IPsec

# The plugins that are asked first stand first.
_CHARON = """\
charon-systemd {{
load = random nonce {first} kdf openssl kernel-netlink socket-default vici
plugins {{ vici {{ socket = unix://{socket} }} }}
filelog {{ it {{ path = stderr
flush_line = yes }} }}
}}
swanctl {{ load = random openssl }}
"""
_TUNNEL = """\
connections {{ tunnel {{
version = 2
local_addrs = 10.9.0.{own}
remote_addrs = 10.9.0.{other}
proposals = aes128-sha256-x25519
local {{ auth = psk
id = end{own} }}
remote {{ auth = psk
id = end{other} }}
children {{ tunnel {{
esp_proposals = aes128-sha256
local_ts = 10.9.{own}.0/24
remote_ts = 10.9.{other}.0/24
start_action = {action}
}} }}
}} }}
secrets {{ ike {{ secret = passphrase }} }}
"""
_ENDS = (1, 2)
_MADE = "CHILD_SA tunnel{1} established"


def _ip(words: str) -> None:
    subprocess.run([str(find("ip")), *words.split()], check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def _two_hosts() -> Iterator[None]:
    """Have two network namespaces, ``end1`` and ``end2``, joined by a cable, during the block."""
    try:
        for end in _ENDS:
            _ip(f"netns add end{end}")
        _ip("link add cable netns end1 type veth peer name cable netns end2")
        for end in _ENDS:
            _ip(f"-n end{end} address add 10.9.0.{end}/24 dev cable")
            _ip(f"-n end{end} link set cable up")
        yield
    finally:
        for name in [f"end{end}" for end in _ENDS if Path(f"/run/netns/end{end}").exists()]:
            _ip(f"netns delete {name}")


@contextlib.contextmanager
def _charon(session: Session, end: int, first: str = "") -> Iterator[Running]:
    """Have a charon at one end during the block; the first end calls the other as soon as it is told of it."""
    config, tunnel, socket = (session.place / name for name in ("strongswan.conf", "swanctl.conf", "vici"))
    config.write_text(_CHARON.format(first=first, socket=socket))
    action = "start" if end == _ENDS[0] else "none"
    tunnel.write_text(_TUNNEL.format(own=end, other=sum(_ENDS) - end, action=action))
    session.environment["STRONGSWAN_CONF"] = str(config)
    with session.started("ip", "netns", "exec", f"end{end}", "charon-systemd") as charon:
        if charon.wait_for(90, "worker threads"):
            # What tells it of its tunnel is not what is tried.
            teller = Session(session.place / "teller", ROOT, environment=session.environment)
            teller.place.mkdir()
            for what in ("--load-creds", "--load-conns"):
                told = teller.run("swanctl", what, "--file", str(tunnel), "--uri", f"unix://{socket}")
                assert not told.status, told
        yield charon


def tunnel(session: Session) -> Result:
    """Two charons make a tunnel of IPsec: one asks the plugin af-alg first, all of the other's is OpenSSL's.

    Each proves to the other that it has the same keys (RFC 7296, 2.15), and what they encrypt is authenticated.
    """
    peer = Session(session.place / "peer", ROOT)
    peer.place.mkdir()
    with _two_hosts(), _charon(peer, 2) as other, _charon(session, 1, "af-alg") as charon:
        if charon.ended(0):
            return failed(charon.done)
        charon.wait_for(120, _MADE, "NO_PROPOSAL_CHOSEN", "AUTHENTICATION_FAILED", "giving up", "unable to")
        states = subprocess.run(
            [str(find("ip")), "-n", "end2", "xfrm", "state"], check=True, capture_output=True, text=True, timeout=60
        ).stdout
        made = _MADE in other.done.err and states.count("proto esp") == 2
        return Result(made, "its plugin openssl" if made else charon.done.complaint)
