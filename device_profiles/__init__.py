"""Profiles, one TOML file per kind of device: data only."""
