import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from gateway.errors import ConfigError
from gateway.io import control
from gateway.ledger import messages
from tests.processes import PROFILE, ROOT, Ear, MakeSite, Process, Site, make_site, type_iomt, wait_for

__all__ = ["make_site"]  # a fixture


def test_first_certificate(make_site: MakeSite) -> None:
    """Sensors that are heard become readings, blocks and certificates by four peers, without anyone's doing."""
    site = make_site(peers=4, sensors=2)
    site.start()
    status = site.await_certified(3)
    assert (status["gateway"], status["chain"], status["broker"]) == ("ward-3", site.chain, "connected")
    assert len(status["voted_last"]) >= status["quorum"] == 3
    assert status["policy"] == [3, list(site.peers)]
    assert set(status["voted_last"]) <= set(status["peers"]) == set(site.peers)
    assert [device["state"] for device in status["devices"]] == ["connected", "connected"]
    assert site.gateway.end() == 0
    account = site.audit()
    assert account.certified >= 3
    assert min(account.readings[name] for name in site.sensors) > 0


def test_status_is_for_people_and_for_programs(running: Site) -> None:
    """`iomt status` shows what runs to a person, and with --json the same as one object."""
    running.await_certified()
    running.await_status("readings", 1)
    told = type_iomt("status", "--state", running.state)
    assert "broker      connected\n" in told
    assert "peers       1 of 1 voted last (peer-0)\nquorum      1 of peer-0\n" in told
    assert re.search(r"^nonin-1 +connected +\d+ +\d+ +.*SpO2 \d+ %$", told, re.MULTILINE)
    assert max(len(line) for line in told.splitlines()) <= 80
    status = json.loads(type_iomt("status", "--state", running.state, "--json"))
    assert {"/min", "%"} <= {value["unit"] for value in status["devices"][0]["latest"]["measurements"]}


def test_late_vote_is_kept_too(make_site: MakeSite) -> None:
    """Votes that come after the quorum's are kept with their block: a receipt by every peer is worth more."""
    site = make_site(peers=4)
    site.start()
    site.await_certified(2)

    def votes() -> bool:
        with site.store() as store:
            return len(store.votes(0)) == 4

    wait_for("the fourth vote on block 0", votes)


def test_broker_that_is_away_at_the_start_is_waited_for(make_site: MakeSite) -> None:
    """Without a broker readings are taken and kept, nothing is sealed; when it comes, all of them are certified."""
    site = make_site()
    for peer in site.peers.values():
        peer.start()
    site.start_line()
    site.start_gateway()
    status = site.await_status("readings", 20)
    assert (status["broker"], status["blocks"]) == ("away", 0)
    kept = status["leaves"]
    site.broker.start()
    wait_for("all that was kept to be voted for", lambda: site.peer_leaves("peer-0") >= kept)
    site.gateway.end()
    site.audit()


def test_broker_that_goes_away_costs_nothing(make_site: MakeSite) -> None:
    """While the broker is away, readings are taken and blocks sealed; when it is back, every one is certified."""
    site = make_site()
    site.start()
    certified = site.await_certified()["certified_blocks"]
    site.broker.kill()
    status = site.await_status("blocks", certified + 3)
    assert status["certified_blocks"] < status["blocks"]
    site.broker.start()
    site.await_status("certified_blocks", status["blocks"])
    site.gateway.end()
    account = site.audit()
    assert account.certified >= status["blocks"]


def test_device_is_enrolled_while_the_gateway_runs(make_site: MakeSite) -> None:
    """A sensor that a person adds is heard at once, and its enrolment is an event before its first reading."""
    site = make_site(sensors=2)
    port = site.folder / "ports" / "usb-nonin-2"
    options = ["--state", site.state, "--profile", PROFILE, "--yes", "--no-reading"]
    site.start()
    with pytest.raises(ConfigError, match="is enrolled already, as nonin-2"):
        type_iomt("device", "add", "--address", port, "--id", "again", *options)
    site.line.end()
    ports = site.folder / "other"
    other = Process(site.folder / "other.log", sys.executable, "-m", "firmware_stubs.line", "--folder", ports)
    other.arguments += ["--sensor", "nonin_df2:usb-late:ppg_long"]
    other.start()
    other.first_line()
    type_iomt("device", "add", "--address", ports / "usb-late", "--id", "late", *options)
    wait_for("a reading of the new device", lambda: bool(site.status()["devices"][2]["readings"]))
    other.end()
    assert site.gateway.end() == 0
    assert site.audit().readings["late"] > 0


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        ({"do": "dance"}, "unknown command 'dance'; allowed: status, enrol"),
        ({"do": "enrol", "device": "x", "profile": PROFILE}, "unknown command 'enrol'"),
        ({"do": "enrol", "device": "x", "profile": "none-such", "address": "y"}, "profile 'none-such' is not here"),
        ({"do": "enrol", "device": "\x1b[2J", "profile": PROFILE, "address": "y"}, "the name .* allowed"),
        ([], "not a request"),
    ],
)
def test_command_is_refused(running: Site, request_: object, refusal: str) -> None:
    """What is no command of the gateway's is answered with what is allowed, and changes nothing."""
    with pytest.raises(ConfigError, match=refusal):
        control.call(running.state / "control", request_)  # type: ignore[arg-type]  # that is the point
    assert [device["id"] for device in running.status()["devices"]] == ["nonin-1"]


def test_stops_within_five_seconds_and_leaves_only_its_state(make_site: MakeSite) -> None:
    """SIGTERM is obeyed at once, twice as well as once; what was recorded is committed, no socket or log stays."""
    site = make_site()
    site.start()
    site.await_certified()
    began_s = monotonic()
    site.gateway.send(signal.SIGTERM)
    assert site.gateway.end(signal.SIGTERM) in {0, -signal.SIGTERM}  # the latter: it came when all was done
    assert monotonic() - began_s < 5
    assert "Traceback" not in site.gateway.log.read_text()
    stopped = site.gateway.logged("stopped")[-1]
    files = sorted(path.name for path in site.state.iterdir())
    kept = ["gateway.toml", "known-roster.cose", "lock", "master.key", "readings.db", "recovery.key", "ward-3.card"]
    assert files == kept
    assert site.audit().leaves == stopped["durable"]


def test_second_gateway_in_a_folder_is_refused(running: Site) -> None:
    """One folder is one gateway: a second one ends with code 2 and a line, and the first goes on."""
    second = subprocess.run(running.gateway.arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert second.stderr == f"iomt: {running.state}: in use by another iomt process; stop it first\n"
    running.await_certified()


def test_profile_that_is_gone_is_named(make_site: MakeSite) -> None:
    """A device whose profile is not there any more ends the start with code 2 and one line."""
    site = make_site(sensors=0)
    (site.state / "profiles").mkdir()
    own = (ROOT / "device_profiles" / f"{PROFILE}.toml").read_text().replace(PROFILE, "own")
    (site.state / "profiles" / "own.toml").write_text(own)
    options = ["--state", site.state, "--profile", "own", "--yes", "--no-reading"]
    type_iomt("device", "add", "--address", "/dev/none", "--id", "x", *options)
    (site.state / "profiles" / "own.toml").unlink()
    site.gateway.start()
    assert site.gateway.ended() == 2
    assert site.gateway.lines()[-1]["text"].startswith("iomt: profile 'own' is not here; allowed: ")


@pytest.fixture
def notify(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """Give a socket such as systemd's, and the environment of a unit that it watches."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        yield listening, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}


@pytest.mark.parametrize("who", ["gateway", "peer-0"])
def test_watchdog_is_fed_while_there_is_nothing_to_do(
    make_site: MakeSite, notify: tuple[socket.socket, dict[str, str]], who: str
) -> None:
    """Systemd hears when all is up, that it goes on without a reading or a proposal, and that it ends."""
    listening, environment = notify
    site = make_site(sensors=0)
    site.broker.start()
    process = {"gateway": site.gateway, **site.peers}[who]
    process.environment = environment
    process.start()
    heard = [listening.recv(100) for _ in range(4)]
    assert heard == [b"READY=1", *[b"WATCHDOG=1"] * 3]
    assert process.end() == 0
    while heard[-1] == b"WATCHDOG=1":
        heard.append(listening.recv(100))
    assert heard[-1] == b"STOPPING=1"


def test_question_for_tips_is_not_a_flood(make_site: MakeSite) -> None:
    """While too few peers answer, the gateway asks again about once a second, however many readings it takes."""
    site = make_site(peers=4)
    site.broker.start()
    site.peers["peer-0"].start()
    site.start_line()
    with Ear(site, f"{messages.PREFIX}/+/ask/{site.chain}") as ear:
        began_s = monotonic()
        site.start_gateway()
        site.await_status("readings", 100)
        asked, asking_s = len(ear.heard), monotonic() - began_s
    assert 0 < asked <= asking_s + 1


@pytest.fixture
def running(make_site: MakeSite) -> Site:
    """Give a site that runs."""
    site = make_site()
    site.start()
    return site
