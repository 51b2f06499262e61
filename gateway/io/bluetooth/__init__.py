"""Bluetooth LE through BlueZ, by bleak: the radio that keeps devices connected, and discovery for onboarding."""

from gateway.io.bluetooth.discovery import Advertisement, discover
from gateway.io.bluetooth.link import Contact, LinkState, Listener, Write
from gateway.io.bluetooth.radio import Radio

__all__ = ["Advertisement", "Contact", "LinkState", "Listener", "Radio", "Write", "discover"]
