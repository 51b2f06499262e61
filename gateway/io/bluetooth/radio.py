"""The radio: one scanner for ever and one endless loop per device.

A device goes searching -> connecting -> subscribed -> (quiet ->) lost -> backoff -> searching. What BlueZ says of a
link is not believed for long: when bluetoothd is killed, bleak goes on calling the link connected. Silence ends it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    CHARACTERISTIC,
    DBUS,
    choose_adapter,
    connected_devices,
    limit,
    managed_objects,
    match_signal,
    set_power,
    system_bus,
)
from gateway.io.bluetooth.bonding import bond_state
from gateway.io.bluetooth.ladder import Ladder, Step
from gateway.io.bluetooth.link import Contact, Delays, Ear, Link, LinkState, Listener
from gateway.io.bluetooth.refusals import explain_refusal

# bleak gives up after 20 s and then has BlueZ cancel the attempt, which a hung BlueZ never answers.
_CONNECT_LIMIT_S: Final = 30.0
_LOOK_INTERVAL_S: Final = 30.0

_Report = Callable[..., None]


class Radio:
    """One Bluetooth adapter, by default the first that is powered; `slots` is how many links its controller holds.

    The caller runs `run` and each `follow` and `listen` as tasks of its own; all end by cancellation, and `run` also
    when starting the process anew is all that is left to try.
    """

    def __init__(self, *, adapter: str | None = None, slots: int = 5) -> None:
        self._adapter = adapter
        self._slots = asyncio.Semaphore(slots)
        # A controller makes one connection at a time.
        self._connecting = asyncio.Lock()
        self._links: dict[BleakClient, Link] = {}
        self._searches: dict[str, asyncio.Future[BLEDevice]] = {}
        self._ears: dict[str, tuple[str, Ear]] = {}
        self._expected = 0  # devices that should be heard all the time
        self._ladder = Ladder(asyncio.get_running_loop().time())
        # Set when there is reason to ask BlueZ what became of it.
        self._doubt = asyncio.Event()
        self._gone = ""
        self._stuck = False
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Keep the scanner alive, whatever becomes of the bus, BlueZ and the adapter.

        Raises: Unavailable if the radio was long silent and neither a new scan nor a reset of the adapter helped.
        """
        delays = Delays()
        while True:
            try:
                async with system_bus() as bus:
                    await self._scan(bus, delays)
            except Unavailable as error:
                reason = str(error)
            for link in self._links.values():
                link.end(reason)
            if self._stuck:
                raise Unavailable(reason)
            delay_s = delays.next_s()
            self._log.warning("radio away", reason=reason, retry_s=round(delay_s, 1))
            await asyncio.sleep(delay_s)

    async def follow(self, contact: Contact, listener: Listener) -> NoReturn:
        """Keep one device connected and subscribed, or connect it whenever it is there; one task per address."""
        address = contact.address.upper()
        report = self._reporter(address, listener)
        delays = Delays()
        with self._expecting(contact):
            while True:
                report(LinkState.AWAITED if contact.intermittent else LinkState.SEARCHING)
                device = await self._search(address)
                link = Link(listener, self._ladder.heard)
                if self._slots.locked():
                    report(LinkState.SEARCHING, "every connection slot is taken")
                async with self._slots:
                    try:
                        await self._hold(device, contact, link, listener, report)
                    except Unavailable as error:
                        link.end(str(error))
                if link.first.is_set():
                    delays.reset()
                    if contact.intermittent:
                        continue
                delay_s = delays.next_s()
                report(LinkState.BACKOFF, f"{link.reason}; next try in {delay_s:.1f} s")
                await asyncio.sleep(delay_s)

    async def listen(self, contact: Contact, listener: Listener) -> NoReturn:
        """Take what one device advertises as service data of the contact's one channel; one task per address."""
        address, (service,) = contact.address.upper(), contact.channels
        report = self._reporter(address, listener)
        report(LinkState.SEARCHING)
        with self._expecting(contact):
            while True:
                link = Link(listener, self._ladder.heard)
                self._ears[address] = normalize_uuid_str(service), link.ear(service)
                try:
                    await link.first.wait()
                    report(LinkState.LISTENING)
                    await link.next_write(contact.quiet_s)
                finally:
                    del self._ears[address]
                report(LinkState.LOST, f"no advertisement for {contact.quiet_s:g} s")

    async def _hold(self, device: BLEDevice, contact: Contact, link: Link, listener: Listener, report: _Report) -> None:
        """Carry one connection from its start to its end.

        Raises: Unavailable if it does not come about, or something could not be written.
        """
        report(LinkState.CONNECTING)
        client = await self._connect(device)
        self._links[client] = link
        try:
            await self._open(client, contact, link, listener)
            report(LinkState.SUBSCRIBED)
            while write := await link.next_write(contact.quiet_s):
                await _write(client, *write)
            if not link.is_over:
                link.end(f"no frame for {contact.quiet_s:g} s")
                if not contact.intermittent:
                    report(LinkState.QUIET, link.reason)
            if not contact.intermittent:
                report(LinkState.LOST, link.reason)
        finally:
            del self._links[client]
            with suppress(Unavailable):
                async with limit("disconnecting", CALL_LIMIT_S):
                    await client.disconnect()

    async def _connect(self, device: BLEDevice) -> BleakClient:
        """Connect; raises Unavailable, with what it may mean where there is a bond."""
        try:
            async with self._connecting, limit("connecting", _CONNECT_LIMIT_S):
                return await establish_connection(
                    BleakClient,
                    device,
                    device.address,
                    disconnected_callback=self._disconnected,
                    max_attempts=1,
                    use_services_cache=False,
                )
        except Unavailable as error:
            if not await bond_state(device.address, self._adapter):
                raise
            cause = type(error.__cause__).__name__
            raise Unavailable(explain_refusal(device.address, cause, str(error), bonded=True)) from error

    async def _open(self, client: BleakClient, contact: Contact, link: Link, listener: Listener) -> None:
        """Check the bond, set the clock, read what is read once, subscribe, ask for what is stored.

        Raises: Unavailable if any of it fails.
        """
        bonded = await bond_state(contact.address, self._adapter)
        if contact.bond_required and not bonded:
            raise Unavailable("the link is not bonded, which this kind of device must be: onboard it again")
        for uuid, data in listener.opened(bonded=bonded):
            if client.services.get_characteristic(uuid) is not None:
                with suppress(Unavailable):  # a clock that does not want to be set
                    await _write(client, uuid, data)
        for uuid in contact.context:
            if client.services.get_characteristic(uuid) is not None:
                await self._learn(client, uuid, listener)
        for uuid in contact.channels:
            if uuid == contact.channels[0] or _may_notify(client, uuid):
                async with limit("subscribing", CALL_LIMIT_S):
                    await client.start_notify(uuid, link.ear(uuid))
        link.write(listener.subscribed())

    async def _learn(self, client: BleakClient, uuid: str, listener: Listener) -> None:
        """Read what describes the measurements; a device that does not tell is measured all the same."""
        try:
            async with limit(f"reading {uuid}", CALL_LIMIT_S):
                listener.learn(uuid, bytes(await client.read_gatt_char(uuid)))
        except Unavailable as error:
            self._log.info("not told", address=client.address, reason=str(error))

    async def _search(self, address: str) -> BLEDevice:
        """Wait until the device is heard anew: a Connect to one that has gone would block the adapter."""
        search: asyncio.Future[BLEDevice] = asyncio.get_running_loop().create_future()
        self._searches[address] = search
        self._doubt.set()
        try:
            return await search
        finally:
            del self._searches[address]

    async def _scan(self, bus: MessageBus, delays: Delays) -> NoReturn:
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
        await self._wake(bus, adapter)
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
            await self._wake(bus, adapter)
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
            case "InterfacesRemoved", [path, interfaces] if CHARACTERISTIC in interfaces:
                self._lose_services(path)
            case _:
                return
        self._doubt.set()

    def _lose_services(self, path: str) -> None:
        """End the link to a device whose services changed: what was subscribed to is there no more."""
        for client, link in self._links.items():
            if f"/dev_{client.address.replace(':', '_')}/" in path:
                link.end("its services changed")

    async def _wake(self, bus: MessageBus, adapter: str) -> None:
        """Do what a long silence calls for; raises Unavailable where the scan must begin anew."""
        match self._ladder.climb(asyncio.get_running_loop().time(), expected=self._expected > 0):
            case Step.RESTART_SCANNER:
                raise Unavailable(f"{self._silence()}: the scanner is started anew")
            case Step.RESET_ADAPTER:
                await set_power(bus, adapter, on=False)
                await set_power(bus, adapter, on=True)
                raise Unavailable(f"{self._silence()}: {adapter} was switched off and on")
            case Step.EXIT:
                self._stuck = True
                raise Unavailable(f"{self._silence()}, and neither a new scan nor a reset of {adapter} helped")

    def _silence(self) -> str:
        return f"nothing was heard for {self._ladder.silence_s(asyncio.get_running_loop().time()):.0f} s"

    @contextmanager
    def _expecting(self, contact: Contact) -> Iterator[None]:
        """Count a device that should be heard all the time."""
        self._expected += not contact.intermittent
        try:
            yield
        finally:
            self._expected -= not contact.intermittent

    def _reporter(self, address: str, listener: Listener) -> _Report:
        log = self._log.bind(address=address)

        def report(state: LinkState, reason: str = "") -> None:
            log.info(state.value, **({"reason": reason} if reason else {}))
            listener.change(state, reason)

        return report

    def _found(self, device: BLEDevice) -> None:
        search = self._searches.get(device.address)
        if search is not None and not search.done():
            search.set_result(device)

    def _heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        self._ladder.heard(asyncio.get_running_loop().time())
        self._found(device)
        if device.address in self._ears:
            uuid, ear = self._ears[device.address]
            if uuid in data.service_data:
                ear(None, bytearray(data.service_data[uuid]))

    def _disconnected(self, client: BleakClient) -> None:
        self._doubt.set()
        if client in self._links:  # else an attempt that failed
            self._links[client].end("the link was lost")


def _may_notify(client: BleakClient, uuid: str) -> bool:
    """Say whether the device has a characteristic to subscribe to: a battery level may be there to be read alone."""
    found = client.services.get_characteristic(uuid)
    return found is not None and not {"notify", "indicate"}.isdisjoint(found.properties)


async def _write(client: BleakClient, uuid: str, data: bytes) -> None:
    """Write, with a response where the characteristic gives one; raises Unavailable."""
    async with limit(f"writing {uuid}", CALL_LIMIT_S):
        await client.write_gatt_char(uuid, data)
