"""The switches for what goes wrong with a simulated device."""

from collections import deque
from dataclasses import dataclass, field

from firmware_stubs.objects import CallError


@dataclass(slots=True)
class Faults:
    """What goes wrong with a device while it is set.

    `connect_errors`: each Connect takes one and fails with it. `connect_stalls`: Connect is not answered until
    somebody calls it off by Disconnect. `silent`: the link stays up and nothing is notified. `doubled`: each
    notification is sent twice. `downgraded`: a device that would pair with a number offers "just works".
    `disconnect_delay_s`: how long Disconnect takes; with a real BlueZ about 2.5 s.
    """

    connect_errors: deque[CallError] = field(default_factory=deque)
    connect_stalls: bool = False
    silent: bool = False
    doubled: bool = False
    downgraded: bool = False
    disconnect_delay_s: float = 0.0
