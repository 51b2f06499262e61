"""The device profiles: those that come with the product, and those that a person put into a folder."""

from importlib.resources import files
from pathlib import Path

from gateway.config import Profile, load_profile
from gateway.errors import ConfigError

PACKAGE = "device_profiles"


def load_profiles(decoders: frozenset[str], folder: Path | None = None) -> dict[str, Profile]:
    """Read every profile, by name; one in `folder` replaces one of the same name.

    Raises: ConfigError naming the file and the key that is wrong.
    """
    profiles = {}
    shipped = {entry.name: entry.read_text() for entry in files(PACKAGE).iterdir() if entry.name.endswith(".toml")}
    own = {str(path): _read(path) for path in folder.glob("*.toml")} if folder else {}
    sources = [*sorted(shipped, key=_stem), *sorted(own, key=_stem)]
    for source in sources:
        profile = load_profile({**shipped, **own}[source], source, decoders)
        if _stem(source) != profile.name:
            raise ConfigError(f"{source}: name is {profile.name!r}; allowed: the file's own, {_stem(source)!r}")
        profiles[profile.name] = profile
    return profiles


def _stem(source: str) -> str:
    return Path(source).stem


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
