"""What a device says of itself: the Device Information service, 0x180A.

    2a24    48 31 30 00                "H10"
    2a23    bc 9a 78 fe ff 56 34 12    "123456fffe789abc"
    2a50    02 5c 0a 34 12 10 01       "USB 0a5c:1234 v1.1"

Texts are UTF-8 of the device's choice and meant for a person: what cannot be printed (NUL, control characters, marks
that turn the direction of text) is left out, and 64 characters are enough. A system id is 5 bytes of the maker and 3
of its OUI, least significant first; it is written as the EUI-64 that it makes. A PnP id is whose the vendor id is (1
Bluetooth SIG, 2 USB), vendor, product and a version in binary coded decimals, JJMN for JJ.M.N.
Source: Device Information Service 1.1, section 3; GATT Specification Supplement, System ID and PnP ID.
"""

from struct import Struct

DEVICE_INFORMATION = ("2a29", "2a24", "2a25", "2a26", "2a27", "2a28", "2a23", "2a50")
_TEXTS = {
    "2a29": "manufacturer",
    "2a24": "model",
    "2a25": "serial",
    "2a26": "firmware",
    "2a27": "hardware",
    "2a28": "software",
}
_LONGEST = 64
_SYSTEM_ID_SIZE = 8
_PNP_ID = Struct("<BHHH")
_VENDOR_SOURCES = {1: "Bluetooth", 2: "USB"}


def read_information(characteristic: str, value: bytes) -> tuple[str, str] | None:
    """Give the name of what a characteristic ("2a29") says and its text; None where it says nothing of use."""
    if characteristic in _TEXTS:
        return _named(_TEXTS[characteristic], _clean(value))
    if characteristic == "2a23" and len(value) == _SYSTEM_ID_SIZE:
        return "system-id", value[::-1].hex()
    if characteristic == "2a50" and len(value) == _PNP_ID.size:
        return "pnp-id", _write_pnp_id(value)
    return None


def _named(name: str, text: str) -> tuple[str, str] | None:
    return (name, text) if text else None


def _clean(value: bytes) -> str:
    text = value.decode("utf-8", errors="replace")
    return "".join(character for character in text if character.isprintable()).strip()[:_LONGEST].rstrip()


def _write_pnp_id(value: bytes) -> str:
    source, vendor, product, version = _PNP_ID.unpack(value)
    whose = _VENDOR_SOURCES.get(source, f"source {source}")
    patch = f".{version & 0xF:x}" if version & 0xF else ""
    return f"{whose} {vendor:04x}:{product:04x} v{version >> 8:x}.{version >> 4 & 0xF:x}{patch}"
