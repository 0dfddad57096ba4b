"""What risk is counted by: how often a voter asks, how many voters share a device or a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

from domain.ports import AdmissionAttempt

CHALLENGE_PERMILLE = 600
DENY_PERMILLE = 900
UNKNOWN_NETWORK = "unknown"
_IPV4_PREFIX, _IPV6_PREFIX = 24, 48


@dataclass(frozen=True, slots=True)
class Threshold:
    """From `challenge_at` on a step-up is asked; from `deny_at` on, where there is one, the answer is no."""

    challenge_at: int
    deny_at: int | None = None

    def score_permille(self, count: int) -> int:
        """Return how near a count is to these limits: 600 at the challenge, 900 at the denial, 1000 at most."""
        if count < self.challenge_at:
            return count * CHALLENGE_PERMILLE // self.challenge_at
        if self.deny_at is None:
            return CHALLENGE_PERMILLE
        if count >= self.deny_at:
            return min(1000, DENY_PERMILLE + count - self.deny_at)
        span = self.deny_at - self.challenge_at
        return CHALLENGE_PERMILLE + (count - self.challenge_at) * (DENY_PERMILLE - CHALLENGE_PERMILLE) // span


@dataclass(frozen=True, slots=True)
class Velocity:
    """What was counted, this attempt included; `device_voters` is 0 where no device is known."""

    voter_attempts: int
    device_voters: int
    network_attempts: int


class VelocityCounter(Protocol):
    """Counts attempts under pseudonyms."""

    async def observe(self, attempts: Sequence[AdmissionAttempt]) -> Sequence[Velocity]:
        """Count attempts that came at once and return what stands now, in order.

        Raises DomainError `velocity_unavailable`; whether they were counted is then not known.
        """
        ...


def network_of(client: str) -> str:
    """Return the network of a client's address, `192.0.2.0/24` or `2001:db8:1::/48`, or `unknown`."""
    try:
        address = ip_address(client)
    except ValueError:
        return UNKNOWN_NETWORK
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefix = _IPV6_PREFIX if isinstance(address, IPv6Address) else _IPV4_PREFIX
    return str(ip_network((address.packed, prefix), strict=False))
