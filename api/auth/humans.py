"""Tells people from programs before anything is done for them."""

from uuid import NAMESPACE_URL, uuid5

from domain.challenges import BotChallenge, ChallengeAction
from domain.errors import DomainError, ErrorCode


async def require_human(vendor: BotChallenge | None, token: str, action: ChallengeAction, nonce: str) -> None:
    """Redeem the token of a bot challenge; asked again with the same token and nonce, the vendor says the same.

    Raises:
        DomainError: `challenge_failed`; `challenges_unavailable`: without the vendor nobody is let in.
    """
    if vendor is None:
        raise DomainError(ErrorCode.CHALLENGES_UNAVAILABLE, "nobody to ask")
    key = str(uuid5(NAMESPACE_URL, f"{action}/{nonce}/{token}"))
    verdict = await vendor.redeem(token, action, nonce, key)
    if not verdict.passed:
        raise DomainError(ErrorCode.CHALLENGE_FAILED)
