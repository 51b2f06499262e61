"""The device profiles: those that come with the product, and those that a person wrote."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from gateway.errors import ConfigError
from gateway.profile import Profile, load_profile

PACKAGE = "device_profiles"


def load_profiles(decoders: frozenset[str], own: Mapping[str, str] | None = None) -> dict[str, Profile]:
    """Read every profile, by name; `own` are a person's, TOML by file name, and replace those of the same name.

    Raises: ConfigError naming the file and the key that is wrong.
    """
    profiles = {}
    shipped = {entry.name: entry.read_text() for entry in files(PACKAGE).iterdir() if entry.name.endswith(".toml")}
    texts = {source: table[source] for table in (shipped, own or {}) for source in sorted(table, key=_stem)}
    for source, text in texts.items():
        profile = load_profile(text, source, decoders)
        if _stem(source) != profile.name:
            raise ConfigError(f"{source}: name is {profile.name!r}; allowed: the file's own, {_stem(source)!r}")
        profiles[profile.name] = profile
    return profiles


def _stem(source: str) -> str:
    return Path(source).stem
