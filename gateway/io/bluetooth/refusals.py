"""What BlueZ's refusals mean, each in one line that says what is wrong, where and what to do; pure.

    org.bluez.Error.AuthenticationFailed of Pair, after a passkey was typed -> the passkey was wrong
    org.bluez.Error.LeConnectionKeyMissing of Connect                       -> the device has lost the bond

Names as in BlueZ's documents org.bluez.Device and org.bluez.Agent. They say less than they seem to: an agent's
refusal, a wrong passkey and a device that pairs with nobody are all AuthenticationFailed on a Low Energy link, so what
our own agent went through decides.
"""

import re
from enum import StrEnum
from typing import Final

from gateway.errors import ConfigError, IomtError, Unavailable, VerificationError

ERROR: Final = "org.bluez.Error."
ACCESS_DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"

# Answers to Pair that may come of what a person answered.
_FAILED: Final = frozenset({"AuthenticationFailed", "AuthenticationRejected"})
# What Connect says of a bond that the device does not have any more. A later BlueZ names it, as Failed
# le-connection-key-missing or as LeConnectionKeyMissing. Before, it was what is said of any connection that breaks off
# while it is made; bleak tries those again, and in the end tells of nothing but the time.
_BROKEN_OFF: Final = ("le-connection-abort-by-local", "TimeoutError")
_KEY_MISSING: Final = re.compile("key[- ]?missing", re.IGNORECASE)


class Course(StrEnum):
    """What our agent went through while a device was paired."""

    UNASKED = "unasked"
    COMPARED = "compared"  # the person said that the numbers are equal
    TYPED_HERE = "typed here"
    TYPED_THERE = "typed there"  # the person was shown what to type into the device
    REFUSED = "refused"  # the person said that the numbers differ
    DOWNGRADED = "downgraded"  # the device offered no number where one is required


_DOWNGRADE: Final = (
    "{address} offered no passkey, as its kind must: a pairing downgrade, or another device under its address"
)
_REFUSED: Final = {
    Course.REFUSED: "{address} was not bonded: the numbers differ, so another device may stand between",
    Course.DOWNGRADED: f"{_DOWNGRADE}; it was not bonded",
}
_ANSWERED: Final = {
    Course.COMPARED: "{address} did not confirm the number: confirm it there too, and try again",
    Course.TYPED_HERE: "the passkey of {address} was wrong: try again and type the six digits that it shows",
    Course.TYPED_THERE: "the passkey was not typed right into {address}: try again with the new one",
}

_LINK_ENDED: Final = "the link to {address} ended while it was paired: keep it near and on, and try again"
_UNWILLING: Final = "{address} refuses pairing: put it into pairing mode, as its manual says, and try again"
_WEATHER: Final = {
    "AuthenticationFailed": _UNWILLING,
    "AuthenticationRejected": _UNWILLING,
    "AuthenticationCanceled": _LINK_ENDED,
    "AuthenticationTimeout": _LINK_ENDED,
    "InProgress": "another program is pairing or connecting {address} now: end that, and try again",
    "org.freedesktop.DBus.Error.NoReply": (
        "bluetoothd ended while {address} was paired: see `systemctl status bluetooth`, and try again"
    ),
    ACCESS_DENIED: "BlueZ lets this user pair no device (D-Bus policy): add it to the group bluetooth",
}


def parse_passkey(text: str) -> int:
    """Read the six digits that a device shows; leading zeros may be left out.

    Raises: ConfigError if it is anything else.
    """
    digits = text.replace(" ", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 6):
        raise ConfigError(f"{text!r} is no passkey: allowed are the six digits that the device shows")
    return int(digits)


def pairing_error(address: str, name: str, text: str, course: Course) -> IomtError:
    """Return what a failed Pair comes to: VerificationError if an answer was wrong or refused, else Unavailable."""
    kind = name.removeprefix(ERROR)
    if course in _REFUSED:
        return VerificationError(_REFUSED[course].format(address=address))
    if kind in _FAILED and course in _ANSWERED:
        return VerificationError(_ANSWERED[course].format(address=address))
    if kind in _WEATHER:
        return Unavailable(_WEATHER[kind].format(address=address))
    return Unavailable(explain_refusal(address, name, text, bonded=False))


def downgrade_error(address: str, *, removed: bool) -> VerificationError:
    """Return what is said of a device that was bonded without a number although its kind has one."""
    bond = "its bond was removed again" if removed else f"remove its bond: `bluetoothctl remove {address}`"
    return VerificationError(f"{_DOWNGRADE.format(address=address)}; {bond}")


def explain_refusal(address: str, name: str, text: str, *, bonded: bool) -> str:
    """Say why a device that was heard was not connected or encrypted.

    `name` and `text` are a D-Bus error's, or the name and text of what bleak raised; `bonded` is as BlueZ has it.
    """
    said = " ".join(text.split()) or name.rsplit(".", 1)[-1]
    certain = bool(_KEY_MISSING.search(f"{name} {text}")) or name.startswith(f"{ERROR}Authentication")
    if bonded and (certain or any(sign in f"{name} {text}" for sign in _BROKEN_OFF)):
        return (
            f"{address} {'does not' if certain else 'may not'} know this bond any more, or another device uses its"
            f" address ({said}): if it was reset, `bluetoothctl remove {address}`, then `iomt device add` again"
        )
    return f"{address} was not connected ({said}): is it on, near and not in use by another?"
