"""Bot challenges: a token that a client's challenge widget earned, redeemed once by the server."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class ChallengeAction(StrEnum):
    """What a challenge was shown for; a token earned for one is not good for another."""

    REGISTER = "register"
    LOGIN = "login"
    RECOVER = "recover"


@dataclass(frozen=True, slots=True)
class ChallengeVerdict:
    """Whether the token shows a human; `reasons` are codes of the vendor or ours, empty on a pass."""

    passed: bool
    reasons: tuple[str, ...] = ()


class BotChallenge(Protocol):
    """The vendor that tells humans from programs."""

    async def redeem(self, token: str, action: ChallengeAction, nonce: str, idempotency_key: str) -> ChallengeVerdict:
        """Return the verdict on a token earned for `action` and `nonce` (the widget's customer data).

        The same `idempotency_key` (a UUID) gives the same verdict again; a token is good once.

        Raises:
            DomainError: `challenges_unavailable` (retryable), `challenges_misconfigured` (final: our secret is wrong).
        """
        ...
