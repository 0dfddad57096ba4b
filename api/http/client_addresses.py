"""Who is asking, behind the balancers that we run ourselves."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NOT_SAMPLED = b"00"
# Where every version has its flags; a later one may have more behind (W3C Trace Context, section 4.3)
_FLAGS = slice(53, 55)


class ClientAddresses:
    """Reads `X-Forwarded-For` as far as it was written by trusted proxies, and no further: the rest is hearsay."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """Trust the given networks (CIDR).

        Raises:
            ValueError: one of them is not a network.
        """
        self._trusted = tuple(ip_network(network) for network in trusted)
        self._known: dict[str, bool] = {}

    def of(self, peer: str, headers: list[tuple[bytes, bytes]]) -> str:
        """Return the client's address: the nearest one that no trusted proxy has."""
        if not self._trusted or not self._trusts(peer):
            return peer
        forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        client = peer
        for offered in reversed(forwarded.split(b",")):
            address = _address(offered)
            if address is None:
                break
            client = str(address)
            if not self._is_trusted(address):
                break
        return client

    def believed(self, client: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers of a client without what only machines of ours may ask for.

        A stranger's `traceparent` keeps its ids, so that its support case can be found, and loses its sampled flag:
        keeping every trace is a cost that nobody outside may put on us. Ours are trusted networks and this machine.
        """
        for name, value in headers:
            if name == b"traceparent" and value[_FLAGS] != _NOT_SAMPLED and not self._is_ours(client):
                return [_unsampled(*header) for header in headers]
        return headers

    def _is_ours(self, client: str) -> bool:
        address = _address(client.encode("ascii", "replace"))
        return address is not None and (address.is_loopback or self._is_trusted(address))

    def _trusts(self, peer: str) -> bool:
        found = self._known.get(peer)
        if found is None:
            address = _address(peer.encode("ascii", "replace"))
            found = address is not None and self._is_trusted(address)
            if len(self._known) < 1024:  # noqa: PLR2004  # balancers are few; strangers must not fill our memory
                self._known[peer] = found
        return found

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _unsampled(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if name == b"traceparent":
        value = value[: _FLAGS.start] + _NOT_SAMPLED + value[_FLAGS.stop :]
    return name, value


def _address(text: bytes) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip().decode("ascii"))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
