"""Where routes meet limits: who is counted, in which order, and what the caller is told of it.

Order matters. A request is counted for whoever has proved to send it, then for its key, its address, its network; the
first that has nothing left refuses, and those after it are not charged. So a token that hammers costs its neighbours
nothing, and nobody can use up what is counted for somebody else.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, Protocol

from fastapi import Request

from api.http.limiting import CellLimits
from domain.access import MachineClient, cell_of_api_key
from domain.errors import DomainError, ErrorCode
from domain.limit_buckets import Buckets
from domain.limits import FAILURE_ADDRESS, Place, Policy, place_of

_PLACES_MAX: Final = 50_000


class LimitedRequest(Protocol):
    """A request that is counted; `limit_lines` are header lines for whatever is answered."""

    limit_lines: bytes

    @property
    def client(self) -> str:
        """The address that the request came from."""
        ...


class Places:
    """Remembers where addresses are; bounded."""

    def __init__(self) -> None:
        self._known: dict[str, Place] = {}

    def of(self, client: str) -> Place:
        """Return the place of an address."""
        place = self._known.get(client)
        if place is None:
            if len(self._known) >= _PLACES_MAX:
                self._known.clear()
            place = self._known[client] = place_of(client)
        return place


class _Counted:
    """The buckets of one policy, and what their subjects are told."""

    __slots__ = ("_line", "_refused", "_window_s", "buckets", "quota")

    def __init__(self, buckets: Buckets, refused: Callable[[Policy], None]) -> None:
        policy = buckets.policy
        name = policy.name.encode("ascii")
        self.buckets = buckets
        self._refused = refused
        # draft-ietf-httpapi-ratelimit-headers-10: lists of strings with parameters (RFC 9651)
        self._line = b'ratelimit-policy: "%b";q=%d;w=%d\r\nratelimit: "%b";r=%%d;t=%%d\r\n' % (
            name,
            policy.quota,
            policy.window_s,
            name,
        )

    def lines(self, ahead_s: float) -> bytes:
        """Return the header lines of a request that was permitted."""
        return self._line % (self.buckets.remaining(ahead_s), math.ceil(ahead_s))

    def refuse(self, request: LimitedRequest, wait_s: float) -> NoReturn:
        """Refuse a request that has to wait. Raises DomainError `rate_limited`."""
        policy = self.buckets.policy
        self._refused(policy)
        retry_after_s = max(1, math.ceil(wait_s))
        request.limit_lines = self._line % (0, retry_after_s)
        raise DomainError(ErrorCode.RATE_LIMITED, f"the limit {policy.name} is used up", retry_after_s=retry_after_s)


class RouteLimits:
    """The limits of one kind of request in one cell; made once, since it is on every vote's way."""

    __slots__ = ("_address", "_device", "_network", "_now", "_own", "_places")

    def __init__(
        self,
        limits: CellLimits,
        places: Places,
        *,
        own: Policy | None = None,
        device: Policy | None = None,
        address: Policy,
        network: Policy,
    ) -> None:
        """Count for `own` and `device` where a request has them, then for its address and its network."""

        def counted(policy: Policy) -> _Counted:
            return _Counted(limits.buckets(policy), limits.metrics.refused)

        self._now = limits.now
        self._places = places
        self._own = None if own is None else counted(own)
        self._device = None if device is None else counted(device)
        self._address = counted(address)
        self._network = counted(network)

    def take(self, request: LimitedRequest, subject: str | bytes = b"", device: str = "") -> None:
        """Count a request for its authenticated `subject` and its `device` where one is known, then for its place.

        The caller is told of its own limit, and of an address's only where it is nobody: how much an address has
        left tells what its neighbours do.

        Raises:
            DomainError: `rate_limited`.
        """
        now = self._now()
        own, address, network = self._own, self._address, self._network
        told = address
        ahead = 0.0
        if own is not None:
            told = own
            ahead = own.buckets.take(subject, now)
            if ahead < 0.0:
                own.refuse(request, -ahead)
        if device and self._device is not None and (left := self._device.buckets.take(device, now)) < 0.0:
            self._device.refuse(request, -left)
        place = self._places.of(request.client)
        if (left := address.buckets.take(place.address, now)) < 0.0:
            address.refuse(request, -left)
        if own is None:
            ahead = left
        if (left := network.buckets.take(place.network, now)) < 0.0:
            network.refuse(request, -left)
        request.limit_lines = told.lines(ahead)


class SubjectLimits:
    """The limit of one kind of authenticated caller, whatever its address."""

    def __init__(self, limits: CellLimits, buckets: Buckets) -> None:
        self._now = limits.now
        self._counted = _Counted(buckets, limits.metrics.refused)

    def take(self, request: LimitedRequest, subject: str) -> None:
        """Count a request. Raises DomainError `rate_limited`."""
        ahead = self._counted.buckets.take(subject, self._now())
        if ahead < 0.0:
            self._counted.refuse(request, -ahead)
        request.limit_lines = self._counted.lines(ahead)


class FailureLimits:
    """What an address may send that is not good: tokens, proofs and keys.

    A good token is never refused for it, or a stranger behind the same address could lock out voters.
    """

    def __init__(self, limits: CellLimits, places: Places) -> None:
        self._now = limits.now
        self._places = places
        self._counted = _Counted(limits.buckets(FAILURE_ADDRESS), limits.metrics.refused)

    def check(self, request: LimitedRequest) -> None:
        """Accept what costs a look-up before it is known to be good. Raises DomainError `rate_limited`."""
        left = self._counted.buckets.left(self._places.of(request.client).address, self._now())
        if left < 0.0:
            self._counted.refuse(request, -left)

    def count(self, request: LimitedRequest) -> None:
        """Count a request whose token, proof or key does not permit it. Raises DomainError `rate_limited`."""
        left = self._counted.buckets.take(self._places.of(request.client).address, self._now())
        if left < 0.0:
            self._counted.refuse(request, -left)


class Limits:
    """The limits of a process: of each cell for its own voters and clients, of the first one for everybody else.

    Whoever has no cell (anonymous readers, staff, failed tokens) is counted in the first cell of the settings, which
    all processes of a service share. Where its Redis is away, each process counts them alone.
    """

    def __init__(self, cells: Mapping[str, CellLimits]) -> None:
        """Take the limits of every cell, at least one."""
        self._cells = cells
        self.strangers = next(iter(cells.values()))
        self.places = Places()
        self.failures = FailureLimits(self.strangers, self.places)

    def route(
        self,
        cell: str | None = None,
        *,
        own: Policy | None = None,
        device: Policy | None = None,
        address: Policy,
        network: Policy,
    ) -> RouteLimits:
        """Return the limits of a route for voters of a cell, or for everybody without one."""
        limits = self.strangers if cell is None else self._cells[cell]
        return RouteLimits(limits, self.places, own=own, device=device, address=address, network=network)

    def subjects(self, policy: Policy) -> SubjectLimits:
        """Return the limits of callers without a cell."""
        return SubjectLimits(self.strangers, self.strangers.buckets(policy))

    def take_client(self, request: LimitedRequest, api_key: str, client: MachineClient) -> None:
        """Count a request of a machine client in the cell that knows it. Raises DomainError `rate_limited`."""
        limits = self._cells.get(cell_of_api_key(api_key) or "", self.strangers)
        SubjectLimits(limits, limits.of_client(client.requests_per_minute)).take(request, client.client_id)


class FrameworkRequest:
    """A request of the framework as one that is counted; its header lines are added by the middleware."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.client = request.client.host if request.client else ""

    @property
    def limit_lines(self) -> bytes:
        """Header lines of the answer."""
        lines: bytes = getattr(self._request.state, "limit_lines", b"")
        return lines

    @limit_lines.setter
    def limit_lines(self, lines: bytes) -> None:
        self._request.state.limit_lines = lines


def limited(limits: RouteLimits) -> Callable[[Request], None]:
    """Return a dependency that counts an anonymous request for its address and network."""

    async def count(request: Request) -> None:
        limits.take(FrameworkRequest(request))

    return count  # type: ignore[return-value]
