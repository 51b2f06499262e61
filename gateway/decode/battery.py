"""Battery Level, GATT characteristic 0x2A19.

    64    100 %

One byte, 0 to 100; other values are reserved.
Source: Battery Service 1.1, section 3.1; the code is MDC_ATTR_VAL_BATT_CHARGE.
"""

from gateway.decode.frame import Fields, FormatError
from gateway.model import Measurement, Sample

BATTERY_LEVEL = 67996


def read_battery(frame: bytes) -> Sample:
    """Give the level in %; raises FormatError."""
    fields = Fields(frame)
    level = fields.unsigned(1, "battery level")
    fields.end(reserved=0)
    if level > 100:
        raise FormatError(f"battery level {level} is reserved")
    return Sample(measurements=(Measurement(BATTERY_LEVEL, level, "%"),), frame=frame)
