"""Where the broker is, and by which files it and we prove who we are."""

import ssl
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from gateway.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM files of mutual TLS: whom we trust as the broker's issuer, and who we are."""

    ca: str
    certificate: str
    key: str

    def context(self) -> ssl.SSLContext:
        """Read the files afresh, so that a renewed certificate counts from the next connection on.

        Raises: ConfigError if a file is missing or does not fit.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:  # the latter: a name that no file can have
            raise ConfigError(f"mutual TLS with {self.ca}, {self.certificate}, {self.key}: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker is: `mqtt://host:port`, or `mqtts://host:port` with mutual TLS."""

    host: str
    port: int
    tls: Tls | None = None

    @classmethod
    def parse(cls, url: str, tls: Tls | None = None) -> Self:
        """Read `mqtt://host:port` (then tls is None) or `mqtts://host:port` (then it is not).

        Raises: ConfigError if it is neither, or says more than a host and a port.
        """
        wanted = f"a broker is mqtt://host:port or mqtts://host:port, not {url!r}"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"{wanted}: {error}") from error
        if parts.scheme not in {"mqtt", "mqtts"} or not host or not port or "@" in parts.netloc:
            raise ConfigError(wanted)
        if parts.path or parts.query or parts.fragment:
            raise ConfigError(f"{wanted}: nothing may follow the port")
        if (parts.scheme == "mqtts") != (tls is not None):
            raise ConfigError(f"{url!r}: mqtts needs a CA, a certificate and a key, and mqtt takes none")
        return cls(host=host, port=port, tls=tls)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"
