"""Where servers are, and which addresses are safe to use: TLS between hosts, plaintext on this machine alone."""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator

from integrations.frozen import Frozen

_ORIGIN: Final = re.compile(r"https?://[a-z0-9.:\[\]-]+")


class Tls(Frozen):
    """PEM files for one address: who signed the server, and who we are."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_secure_url(url: str) -> bool:
    """Tell whether a URL is https, or http on this machine; without credentials and fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # ValueError where it is none
    except ValueError:
        return False
    if not parts.hostname or parts.fragment or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def require_origins(origins: Iterable[str]) -> None:
    """Raise ValueError where one is no origin as browsers send it: scheme, host and port, and nothing behind them."""
    for origin in origins:
        if not is_secure_url(origin) or _ORIGIN.fullmatch(origin) is None:
            raise ValueError(f"{origin!r} is no origin")


def _split(others: str) -> list[str]:
    return [each for each in others.split(",") if each]


def _require_servers(others: str) -> str:
    for each in _split(others):
        host, _, port = each.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"{each!r} is not host:port")
    return others


class Address(Frozen):
    """A server; without `tls` only loopback is accepted in production."""

    host: str = "127.0.0.1"
    port: int
    tls: Tls | None = None


class DatabaseAddress(Address):
    """A PostgreSQL database; the role is the process's own.

    `others` are further servers of the same database, as "host:port,host:port": the primary is whichever serves writes.
    """

    name: str
    others: str = ""

    @field_validator("others")
    @classmethod
    def _are_servers(cls, others: str) -> str:
        return _require_servers(others)

    @property
    def servers(self) -> tuple[Address, ...]:
        """Every server that may be the primary, this address first."""
        split = [each.rpartition(":") for each in _split(self.others)]
        return (
            Address(host=self.host, port=self.port, tls=self.tls),
            *(Address(host=host, port=int(port), tls=self.tls) for host, _, port in split),
        )


class RedisAddress(Address):
    """A Redis database, by number."""

    database: int = 0
    password: SecretStr | None = None


class KafkaAddress(Address):
    """A bootstrap broker and `others`, so that a client starts while one is away.

    `replication` is asked for when topics are made.
    """

    replication: int = 1
    others: str = ""  # host:port,host:port; they share this address's TLS

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """Every bootstrap broker, as host:port."""
        return (f"{self.host}:{self.port}", *_split(self.others))

    @field_validator("others")
    @classmethod
    def _are_brokers(cls, others: str) -> str:
        return _require_servers(others)


class TemporalAddress(Address):
    """A Temporal frontend and the namespace in it."""

    namespace: str
