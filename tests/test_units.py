"""What systemd, udev and mosquitto get: accepted by their own checkers, as locked down as promised."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from gateway.errors import Unavailable
from gateway.io import control
from tests.brokers import Mosquitto
from tests.certificates import Authority
from tests.processes import Process, type_iomt, wait_for

SYSTEMD = Path(__file__).parent.parent / "systemd"
UNITS = {"iomt-gateway.service": "iomt-gateway.service", "iomt-peer@.service": "iomt-peer@lab.service"}
CHAIN, OTHER_CHAIN, PEER, OTHER_PEER = "ward-3.00ff00ff", "ward-4.11ee11ee", "hospital", "lab"


@pytest.mark.parametrize("unit", UNITS)
def test_the_units_are_what_systemd_takes(unit: str, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, once the executable is one that exists here."""
    text = (SYSTEMD / unit).read_text()
    executable = shutil.which("true")
    (tmp_path / UNITS[unit]).write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={executable}", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / UNITS[unit]], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "iomt" in line]
    assert ours == []


@pytest.mark.parametrize("unit", UNITS)
def test_the_units_are_locked_down(unit: str) -> None:
    """`systemd-analyze security` exposes at most 1.5 of 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", SYSTEMD / unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_the_watchdog_and_the_credential_are_asked_for() -> None:
    """Both units notify, are watched, are restarted, and take their secret as a credential."""
    for unit in UNITS:
        text = (SYSTEMD / unit).read_text()
        for setting in ("Type=notify", "WatchdogSec=", "Restart=always", "LoadCredentialEncrypted=master.key:"):
            assert re.search(f"(?m)^{setting}", text), f"{unit}: {setting}"


def test_the_user_is_what_sysusers_takes(tmp_path: Path) -> None:
    """systemd-sysusers makes the user, with the groups of serial ports and Bluetooth, in an empty system."""
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "iomt.sysusers"], check=True)
    assert (tmp_path / "etc/passwd").read_text().startswith("iomt:")
    groups = dict(line.split(":x:")[0:2] for line in (tmp_path / "etc/group").read_text().splitlines())
    assert groups["dialout"].endswith(":iomt")
    assert groups["bluetooth"].endswith(":iomt")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make a CA for the broker and its clients."""
    return Authority(tmp_path)


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Mosquitto]:
    """Run mosquitto with the configuration and the list of rights that are shipped, only port and paths rewritten."""
    mine = authority.issue("127.0.0.1")
    config = (SYSTEMD / "mosquitto.conf").read_text()
    for pattern, value in (
        (r"listener 8883", "listener {port} 127.0.0.1"),
        (r"/etc/mosquitto/certs/ca.crt", mine.ca),
        (r"/etc/mosquitto/certs/broker.crt", mine.certificate),
        (r"/etc/mosquitto/certs/broker.key", mine.key),
        (r"/etc/mosquitto/iomt.acl", str(SYSTEMD / "mosquitto.acl")),
    ):
        config, count = re.subn(rf"(?m)(^|(?<= ))({pattern})$", value, config)
        assert count == 1, pattern
    running = Mosquitto(tmp_path, config).start()
    yield running
    running.kill()


@asynccontextmanager
async def client(broker: Mosquitto, authority: Authority, name: str) -> AsyncIterator[aiomqtt.Client]:
    tls = authority.issue(name).context()
    async with aiomqtt.Client("127.0.0.1", broker.port, identifier=f"{name}-test", tls_context=tls) as connected:
        yield connected


def topics(chain: str, peer: str) -> dict[str, set[str]]:
    """Give every topic by who may write it: one gateway (its chain) or one peer."""
    return {
        chain: {
            f"iomt/1/{chain}/proposal",
            f"iomt/1/{chain}/certificate",
            f"iomt/1/{chain}/live/strap-1",
            f"iomt/1/{chain}/ask/{chain}",
            f"iomt/1/{chain}/answer/{peer}/{chain}",
        },
        peer: {
            f"iomt/1/{chain}/vote/{peer}",
            f"iomt/1/{chain}/tip/{peer}",
            f"iomt/1/{chain}/ask/{peer}",
            f"iomt/1/{chain}/answer/{chain}/{peer}",
        },
    }


async def test_fault_37_each_identity_writes_its_own_topics_and_no_other(
    broker: Mosquitto, authority: Authority
) -> None:
    """The whole matrix, on a real broker: what arrives at a reader is what its writer may write."""
    own = {**topics(CHAIN, PEER), **topics(OTHER_CHAIN, OTHER_PEER)}
    everything = [*sorted(set().union(*own.values())), "iomt/1/end", "elsewhere"]
    for name, allowed in own.items():
        async with client(broker, authority, "patients") as reader, client(broker, authority, name) as writer:
            await reader.subscribe("iomt/1/#", qos=1)
            for topic in everything:
                await writer.publish(topic, name, qos=1)
            last = f"iomt/1/x/ask/{name}"
            await writer.publish(last, name, qos=1)
            arrived = set()
            async with asyncio.timeout(10):
                async for message in reader.messages:
                    if str(message.topic) == last:
                        break
                    arrived.add(str(message.topic))
        assert arrived == allowed, name


async def test_without_a_certificate_of_the_ledger_nobody_connects(broker: Mosquitto, tmp_path: Path) -> None:
    """A certificate of another authority is refused by the broker."""
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger").issue(PEER)
    context = stranger.context()
    context.check_hostname = False
    context.load_verify_locations(str(tmp_path / "ca.pem"))
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client("127.0.0.1", broker.port, tls_context=context, timeout=5) as connected:
            await connected.publish(f"iomt/1/{CHAIN}/proposal", b"", qos=1)


def test_a_block_is_certified_over_the_shipped_broker(broker: Mosquitto, authority: Authority, tmp_path: Path) -> None:
    """Ledger, peer and gateway set up with mutual TLS, each with its own certificate: the way of README's last page."""
    ledger, peer, gateway = tmp_path / "ledger", tmp_path / PEER, tmp_path / "ward-3"
    joining = ["--broker", f"mqtts://127.0.0.1:{broker.port}", "--roster", str(ledger / "roster.cose")]
    type_iomt("ledger", "create", "--state", ledger)
    own = authority.issue(PEER)
    files = ["--ca", own.ca, "--certificate", own.certificate, "--key", own.key]
    type_iomt("peer", "init", "--state", peer, "--id", PEER, *joining, *files)
    files = ["--ca", own.ca, "--certificate", f"{tmp_path}/ward-3.pem", "--key", f"{tmp_path}/ward-3.key.pem"]
    card = json.loads(type_iomt("init", "--state", gateway, "--id", "ward-3", *joining, *files, "--json"))
    theirs = authority.issue(card["chain"])
    Path(theirs.certificate).rename(tmp_path / "ward-3.pem")
    Path(theirs.key).rename(tmp_path / "ward-3.key.pem")
    type_iomt("ledger", "admit", "--state", ledger, peer / f"{PEER}.card", card["card"])
    with (gateway / "gateway.toml").open("r+") as config:
        text = config.read()
        config.seek(0)
        config.write(text.replace("[tls]", "[block]\nage_s = 0.1\n[tls]"))
    running = [
        Process(tmp_path / "peer.log", sys.executable, "-m", "gateway", "peer", "run", "--state", peer),
        Process(tmp_path / "gateway.log", sys.executable, "-m", "gateway", "run", "--state", gateway),
    ]
    for process in running:
        process.start()
    try:
        wait_for("a certified block", lambda: certified_blocks(gateway))
    finally:
        assert [process.end() for process in reversed(running)] == [0, 0]


def certified_blocks(gateway: Path) -> int:
    """Give how many blocks of a running gateway are certified."""
    try:
        blocks: int = control.call(gateway / "control", {"do": "status"})["certified_blocks"]
    except Unavailable:
        return 0
    return blocks
