"""The radio: one scanner for ever and one endless loop per device.

A device goes searching -> connecting -> subscribed -> (quiet ->) lost -> backoff -> searching. What BlueZ says of a
link is not believed for long: when bluetoothd is killed, bleak goes on calling the link connected. Silence ends it.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Final, NoReturn

import structlog
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.uuids import normalize_uuid_str
from bleak_retry_connector import establish_connection
from dbus_fast import Message, unpack_variants
from dbus_fast.aio import MessageBus

from gateway.errors import Unavailable
from gateway.io.bluetooth.bluez import (
    ADAPTER,
    BLUEZ,
    CALL_LIMIT_S,
    DBUS,
    choose_adapter,
    connected_devices,
    limit,
    managed_objects,
    match_signal,
    system_bus,
)

# bleak gives up after 20 s and then has BlueZ cancel the attempt, which a hung BlueZ never answers.
_CONNECT_LIMIT_S: Final = 30.0
_LOOK_INTERVAL_S: Final = 30.0
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 30.0


class LinkState(StrEnum):
    """Where one device's connection stands."""

    SEARCHING = "searching"
    CONNECTING = "connecting"
    SUBSCRIBED = "subscribed"
    QUIET = "quiet"
    LOST = "lost"
    BACKOFF = "backoff"


OnFrame = Callable[[bytes], None]
OnState = Callable[[LinkState, str], None]
_Report = Callable[..., None]


class Radio:
    """One Bluetooth adapter, by default the first that is powered; `slots` is how many links its controller holds.

    The caller runs `run` and each `follow` as tasks of its own; both end only by cancellation.
    """

    def __init__(self, *, adapter: str | None = None, slots: int = 5) -> None:
        self._adapter = adapter
        self._slots = asyncio.Semaphore(slots)
        # A controller makes one connection at a time.
        self._connecting = asyncio.Lock()
        self._links: dict[BleakClient, _Link] = {}
        self._searches: dict[str, asyncio.Future[BLEDevice]] = {}
        # Set when there is reason to ask BlueZ what became of it.
        self._doubt = asyncio.Event()
        self._gone = ""
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Keep the scanner alive, whatever becomes of the bus, BlueZ and the adapter."""
        delays = _Delays()
        while True:
            try:
                async with system_bus() as bus:
                    await self._scan(bus, delays)
            except Unavailable as error:
                reason = str(error)
            for link in self._links.values():
                link.end(reason)
            delay_s = delays.next_s()
            self._log.warning("radio away", reason=reason, retry_s=round(delay_s, 1))
            await asyncio.sleep(delay_s)

    async def follow(
        self, address: str, characteristic: str, *, quiet_s: float, on_frame: OnFrame, on_state: OnState
    ) -> None:
        """Keep one device connected and subscribed; one `follow` per address.

        `characteristic` is a UUID of 16 or 128 bits as text. Each notification goes to `on_frame`, each change of
        state to `on_state` with its reason, "" where there is none; neither may raise. A link without a frame for
        `quiet_s` is lost.
        """
        address, uuid = address.upper(), normalize_uuid_str(characteristic)
        log = self._log.bind(address=address)

        def report(state: LinkState, reason: str = "") -> None:
            log.info(state.value, **({"reason": reason} if reason else {}))
            on_state(state, reason)

        delays = _Delays()
        while True:
            report(LinkState.SEARCHING)
            device = await self._search(address)
            link = _Link(on_frame)
            if self._slots.locked():
                report(LinkState.SEARCHING, "every connection slot is taken")
            async with self._slots:
                try:
                    await self._hold(device, uuid, link, quiet_s, report)
                except Unavailable as error:
                    link.end(str(error))
            if link.heard:
                delays.reset()
            delay_s = delays.next_s()
            report(LinkState.BACKOFF, f"{link.reason}; next try in {delay_s:.1f} s")
            await asyncio.sleep(delay_s)

    async def _hold(self, device: BLEDevice, uuid: str, link: "_Link", quiet_s: float, report: _Report) -> None:
        """Carry one connection from its start to its end.

        Raises: Unavailable if it does not come about.
        """
        report(LinkState.CONNECTING)
        async with self._connecting, limit("connecting", _CONNECT_LIMIT_S):
            client = await establish_connection(
                BleakClient,
                device,
                device.address,
                disconnected_callback=self._disconnected,
                max_attempts=1,
                use_services_cache=False,
            )
        self._links[client] = link
        try:
            async with limit("subscribing", CALL_LIMIT_S):
                await client.start_notify(uuid, link.hear)
            report(LinkState.SUBSCRIBED)
            if await link.falls_quiet(quiet_s):
                link.end(f"no frame for {quiet_s:g} s")
                report(LinkState.QUIET, link.reason)
            report(LinkState.LOST, link.reason)
        finally:
            del self._links[client]
            with suppress(Unavailable):
                async with limit("disconnecting", CALL_LIMIT_S):
                    await client.disconnect()

    async def _search(self, address: str) -> BLEDevice:
        """Wait until the device is heard anew: a Connect to one that has gone would block the adapter."""
        search: asyncio.Future[BLEDevice] = asyncio.get_running_loop().create_future()
        self._searches[address] = search
        self._doubt.set()
        try:
            return await search
        finally:
            del self._searches[address]

    async def _scan(self, bus: MessageBus, delays: "_Delays") -> NoReturn:
        """Scan until the bus, BlueZ or its adapter has gone.

        BlueZ's answers are waited for without a limit: a hung BlueZ answers in the end or dies, and a
        StartDiscovery that was not waited for could never be stopped.

        Raises: Unavailable then.
        """
        self._gone = ""
        bus.add_message_handler(self._hear_bus)
        await match_signal(bus, f"sender='{DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'")
        await match_signal(bus, f"sender='{BLUEZ}',member='PropertiesChanged',arg0='{ADAPTER}'")
        await match_signal(bus, f"sender='{BLUEZ}',member='InterfacesRemoved'")
        adapter = choose_adapter(await managed_objects(bus), self._adapter)
        scanner = BleakScanner(self._heard, bluez={"adapter": adapter})
        async with limit(f"scanning with {adapter}", None):
            await scanner.start()
        try:
            self._log.info("radio scans", adapter=adapter)
            delays.reset()
            await self._watch(bus, adapter)
        finally:
            if bus.connected:  # on a dead bus bleak would wait for ever
                with suppress(Unavailable):
                    async with limit("stopping the scanner", CALL_LIMIT_S):
                        await scanner.stop()

    async def _watch(self, bus: MessageBus, adapter: str) -> NoReturn:
        """Look at BlueZ whenever in doubt: bleak tells of neither its death nor a link that an earlier process left."""
        while not self._gone:
            objects = await managed_objects(bus)
            choose_adapter(objects, adapter)
            for device in connected_devices(objects, adapter):
                self._found(device)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_INTERVAL_S):
                    await self._doubt.wait()
            self._doubt.clear()
        raise Unavailable(self._gone)

    def _hear_bus(self, message: Message) -> None:
        """Note what ends a discovery for good, even if all is well again when BlueZ is looked at."""
        match message.member, message.body:
            case "NameOwnerChanged", [_, old_owner, _] if old_owner:
                self._gone = "bluetoothd has gone"
            case "PropertiesChanged", [_, changed, _] if unpack_variants(changed).get("Powered") is False:
                self._gone = "the Bluetooth adapter was switched off"
            case "InterfacesRemoved", [_, interfaces] if ADAPTER in interfaces:
                self._gone = "the Bluetooth adapter was unplugged"
            case _:
                return
        self._doubt.set()

    def _found(self, device: BLEDevice) -> None:
        search = self._searches.get(device.address)
        if search is not None and not search.done():
            search.set_result(device)

    def _heard(self, device: BLEDevice, _data: AdvertisementData) -> None:
        self._found(device)

    def _disconnected(self, client: BleakClient) -> None:
        self._doubt.set()
        if client in self._links:  # else an attempt that failed
            self._links[client].end("the link was lost")


class _Link:
    """One connection: what it heard and when, and why it ended. Nothing it hears after its end counts."""

    def __init__(self, on_frame: OnFrame) -> None:
        self._on_frame = on_frame
        self._over = asyncio.Event()
        self._heard_s = 0.0
        self.heard = False
        self.reason = ""

    def hear(self, _characteristic: object, value: bytearray) -> None:
        if self._over.is_set():
            return
        self.heard = True
        self._heard_s = asyncio.get_running_loop().time()
        self._on_frame(bytes(value))

    def end(self, reason: str) -> None:
        if not self._over.is_set():
            self.reason = reason
            self._over.set()

    async def falls_quiet(self, quiet_s: float) -> bool:
        """Wait for the end (False) or until nothing was heard for `quiet_s` (True)."""
        loop = asyncio.get_running_loop()
        self._heard_s = max(self._heard_s, loop.time())
        while not self._over.is_set():
            if loop.time() >= self._heard_s + quiet_s:
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._heard_s + quiet_s):
                    await self._over.wait()
        return False


class _Delays:
    """Seconds to wait before the next try: twice as many each time, less up to a half by chance."""

    def __init__(self) -> None:
        self._next_s = _FIRST_DELAY_S

    def next_s(self) -> float:
        delay_s = self._next_s * random.uniform(0.5, 1)  # noqa: S311 - only spreads the tries
        self._next_s = min(2 * self._next_s, _LONGEST_DELAY_S)
        return delay_s

    def reset(self) -> None:
        self._next_s = _FIRST_DELAY_S
