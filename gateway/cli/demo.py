"""`iomt demo`: the whole way of a reading on one machine, with simulated sensors, a broken peer and a forged reading.

Every part is a process of its own and the real thing; only the sensors are simulated, on the unmodified bleak and
pyserial. It says what it does, checks what it says, and ends with exit code 0 only if all of it was so.
"""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.cli.demo_site import PEERS, Site, make_state_folder, type_in, write_out
from gateway.cli.demo_view import View
from gateway.cli.output import as_json_option, show_json
from gateway.errors import Unavailable

STEP_LIMIT_S = 30.0
VICTIM = "lab"
SHOWN_DEVICE = "strap-anna"


@click.command()
@click.option("--broker", help="mqtt://host:port of a broker to use instead of the embedded one.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The folder, new or empty.")
@click.option("--keep", is_flag=True, help="Go on running after the checks, until Ctrl-C.")
@as_json_option
def demo(broker: str | None, state: Path | None, keep: bool, as_json: bool) -> int:  # noqa: FBT001 - click's flags
    """Show the whole way of a reading here, with simulated sensors: nothing but this machine is needed.

    Starts a broker, four ledger peers, two Bluetooth sensors, a serial one and a gateway; kills a peer and brings it
    back; proves a reading and refuses a forged one; stops everything. It takes about 20 s.
    """
    for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: a shell that starts us with & has it ignored
        signal.signal(number, signal.default_int_handler)
    site = Site(make_state_folder(state), broker)
    story = Story(site, View(quiet=as_json))
    try:
        story.tell()
        if keep:
            story.stay()
    finally:
        failed = site.close()
    result = story.result(failed)
    story.view.close(result)
    if as_json:
        show_json(result)
    return 0 if story.all_so(result) else 1


class Story:
    """What happens, step by step; each step waits for its effect and raises Unavailable if that stays away."""

    def __init__(self, site: Site, view: View) -> None:
        self.site = site
        self.view = view
        self._began_s = time.monotonic()
        self._status: dict[str, Any] = {}
        self._caught_up = self._verified = self._refused = False

    def tell(self) -> None:
        """Do everything."""
        self._set_up()
        self._wait("every sensor is heard and blocks are certified", self._is_flowing)
        self._break_a_peer()
        self._prove()

    def stay(self) -> None:
        """Go on until Ctrl-C."""
        self.view.say(f"everything goes on; iomt status --state {self.site.gateway} shows it too; Ctrl-C ends it")
        try:
            while True:
                self._look()
        except KeyboardInterrupt:
            return

    def result(self, failed: list[str]) -> dict[str, Any]:
        """Give what came of it, once all is stopped; `failed` are processes that did not stop as they should."""
        status = self._status
        devices = status.get("devices", [])
        lost = self.site.lost({device["id"]: device["readings"] for device in devices})
        return {
            "readings": status.get("readings", 0),
            "blocks": status.get("blocks", 0),
            "certified_blocks": status.get("certified_blocks", 0),
            "devices": len(devices),
            "peers": len(status.get("peers", [])),
            "quorum": status.get("quorum", 0),
            "verified": self._verified,
            "tamper_detected": self._refused,
            "caught_up": self._caught_up,
            "lost": lost,
            "stopped": not failed,
            "seconds": round(time.monotonic() - self._began_s, 1),
            "state": str(self.site.state),
        }

    @staticmethod
    def all_so(result: dict[str, Any]) -> bool:
        """Say whether all was as promised."""
        good = all(result[key] for key in ("verified", "tamper_detected", "caught_up", "stopped", "readings"))
        return good and result["lost"] == 0 and result["certified_blocks"] > 0

    # -- the steps

    def _set_up(self) -> None:
        self.view.say(f"state folder {self.site.state}")
        self.view.say(f"broker at {self.site.start_broker()}")
        self.site.create_ledger()
        self.view.say(f"ledger of {len(PEERS)} peers ({', '.join(PEERS)}); a block is final when 3 have signed it")
        ports = self.site.start_sensors()
        self.view.say("simulated sensors: two on the radio (org.bluez on a private bus), one on a serial line (a pty)")
        for line in self.site.onboard(ports):
            self.view.say(f"onboarded {line}")
        for name in PEERS:
            self.site.start_peer(name)
        self.site.start_gateway()
        self.view.say("peers and gateway started")

    def _is_flowing(self) -> bool:
        devices = self._status.get("devices", [])
        heard = devices and all(device["readings"] >= 3 for device in devices)
        return bool(heard) and self._status["certified_blocks"] >= 2 and len(self._status["voted_last"]) >= 3

    def _break_a_peer(self) -> None:
        site, chain = self.site, self._status["chain"]
        site.processes.kill(VICTIM)
        before = self._status["certified_blocks"]
        self.view.say(f"peer {VICTIM} killed (SIGKILL)")
        self._wait("blocks are certified without it", lambda: self._status["certified_blocks"] >= before + 3)
        missed = self._status["certified_blocks"] - site.blocks_of(VICTIM, chain)
        site.start_peer(VICTIM)
        target = self._status["certified_blocks"]
        self.view.say(f"peer {VICTIM} started again, {missed} blocks behind")
        self._wait("it has caught up", lambda: site.blocks_of(VICTIM, chain) >= target)
        self._wait(
            "and it votes again",
            lambda: VICTIM in self._status["voted_last"] or site.blocks_of(VICTIM, chain) > target,
        )
        self._caught_up = True

    def _prove(self) -> None:
        state = self.site.state
        good, forged = state / "reading.cose", state / "forged.cose"
        roster = ["--roster", str(self.site.roster)]
        type_in("export", "--state", str(self.site.gateway), "--device", SHOWN_DEVICE, "-o", str(good))
        write_out(state / "ledger.json", type_in("ledger", "show", "--json", *roster))
        shown = type_in("device", "show", SHOWN_DEVICE, "--state", str(self.site.gateway), "--json")
        write_out(state / "device.json", shown)
        self.view.say(f"one reading exported with its receipts: {good.name}, {good.stat().st_size} bytes")
        proven = json.loads(type_in("verify", str(good), *roster, "--json"))
        self._verified = proven["verified"]
        self.view.say("verified offline, with nothing but the file and the roster:")
        self.view.show(type_in("verify", str(good), *roster))
        data = bytearray(good.read_bytes())
        data[len(data) * 3 // 4] ^= 1
        forged.write_bytes(data)
        self._refused = self._is_refused(forged, roster)
        self.view.say("one bit flipped: refused" if self._refused else "one bit flipped: NOT refused")

    def _is_refused(self, forged: Path, roster: list[str]) -> bool:
        try:
            type_in("verify", str(forged), *roster)
        except Unavailable as error:
            self.view.show(str(error).partition("is refused: ")[2])
            return True
        return False

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        """Look until it is so.

        Raises: Unavailable if it is not so in time, or a process ended.
        """
        deadline = time.monotonic() + STEP_LIMIT_S
        self._look()
        while not is_so():
            if time.monotonic() > deadline:
                raise Unavailable(f"waited {STEP_LIMIT_S:g} s in vain until {what}; logs are in {self.site.state}/logs")
            self._look()
        self.view.say(what)

    def _look(self) -> None:
        self.site.processes.check()
        self._status = self.site.status() or self._status
        self.view.update(self._status)
