"""How a device is followed, as its profile says: connected or listened to by radio, or by its serial line."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gateway.io import serial_port
from gateway.profile import Bonding, Line, Profile, Records, Transport

if TYPE_CHECKING:
    from gateway.io.bluetooth import Radio

RECORD_ACCESS = "2a52"


class Listener(Protocol):
    """Who is told of a device; see `gateway.io.bluetooth.Listener`. A line has no context and no bond."""

    def change(self, state: str, reason: str) -> None:
        """Hear of a change of state."""

    def opened(self, *, bonded: bool) -> Sequence[tuple[str, bytes]]:
        """Give what is written before anything is subscribed to."""

    def learn(self, uuid: str, value: bytes) -> None:
        """Take what is read once a connection."""

    def subscribed(self) -> Sequence[tuple[str, bytes]]:
        """Give what is written once all is subscribed to."""

    def hear(self, uuid: str, frame: bytes) -> Sequence[tuple[str, bytes]]:
        """Take what came."""


async def follow(
    profile: Profile, address: str, listener: Listener, radio: "Radio | None", context: tuple[str, ...] = ()
) -> None:
    """Keep one device heard, for ever; `context` is read beside the profile's own. A line needs no radio."""
    if profile.line is not None:
        await _follow_line(profile, profile.line, address, listener)
        return
    if radio is None:
        raise AssertionError("a device of the radio without one")
    from gateway.io.bluetooth import Contact  # noqa: PLC0415 - whoever has a radio has paid for bleak

    channels = tuple(channel.uuid for channel in profile.channels)
    contact = Contact(
        address=address,
        channels=channels if profile.records is Records.NONE else (*channels, RECORD_ACCESS),
        context=tuple(dict.fromkeys((*profile.context, *context))),
        quiet_s=profile.quiet_s,
        intermittent=profile.intermittent,
        bond_required=profile.bonding in {Bonding.REQUIRED, Bonding.AUTHENTICATED},
    )
    if profile.transport is Transport.ADVERTISEMENT:
        await radio.listen(contact, listener)
    else:
        await radio.follow(contact, listener)


async def _follow_line(profile: Profile, line: Line, address: str, listener: Listener) -> None:
    settings = serial_port.LineSettings(
        baudrate=line.baudrate, bytesize=line.bytesize, parity=line.parity, stopbits=line.stopbits
    )
    await serial_port.follow(
        address,
        settings,
        serial_port.Speech(start=line.start, keep_alive=line.keep_alive, keep_alive_s=line.keep_alive_s),
        quiet_s=profile.quiet_s,
        on_chunk=partial(listener.hear, profile.channels[0].uuid),
        on_state=listener.change,
    )
