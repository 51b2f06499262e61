"""The device side of each protocol, to the byte, with the simulated radio and line; never imports gateway."""
