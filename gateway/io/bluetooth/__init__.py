"""Bluetooth LE through BlueZ, by bleak: the radio that keeps devices connected, and discovery for onboarding."""

from gateway.io.bluetooth.discovery import Advertisement, discover
from gateway.io.bluetooth.radio import LinkState, Radio

__all__ = ["Advertisement", "LinkState", "Radio", "discover"]
