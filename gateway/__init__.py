"""The gateway: from a frame heard to a reading that can be proved."""
