"""Frames that carry a number: for more than eight hours none is like another, so what was lost can be counted."""

from firmware_stubs.contec import Moment, encode_five
from firmware_stubs.sensors import encode_heart_rate


def strap_frame(number: int) -> bytes:
    """Return a strap's frame, of a rate and one interval; from number 30,000 on they come again."""
    return encode_heart_rate(60 + number % 60, [600 + number // 60 % 500])


def finger_frame(number: int) -> bytes:
    """Return one of the 60 frames that a CMS50D+ says in a second; from number 1,966,080 on they come again."""
    moment = Moment(
        pleth=number & 0x7F,
        bar=number >> 7 & 0x0F,
        signal=number >> 11 & 0x0F,
        rate_per_min=60 + (number >> 15) % 60,
        spo2_percent=97,
    )
    return encode_five(moment)
