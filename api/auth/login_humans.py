"""Whether a bot challenge was passed, for who does not get as far as being judged."""

import asyncio
from uuid import NAMESPACE_URL, uuid5

from domain.challenges import BotChallenge, ChallengeAction
from domain.errors import DomainError, ErrorCode
from domain.logins import VENDOR_WITHIN_S


class HumanChecks:
    """Redeems the tokens of logins: each is good for one guess, or for one message.

    Where the vendor is away nobody is a bot: guesses and messages have limits of their own, and no login is let in
    without a further factor meanwhile.
    """

    def __init__(self, challenges: BotChallenge | None) -> None:
        self._challenges = challenges

    async def is_human(self, token: str, nonce: str) -> bool:
        """Tell whether the challenge was passed, or cannot be asked about."""
        if self._challenges is None:
            return True
        key = str(uuid5(NAMESPACE_URL, f"login/{nonce}/{token}"))
        try:
            async with asyncio.timeout(VENDOR_WITHIN_S):
                verdict = await self._challenges.redeem(token, ChallengeAction.LOGIN, nonce, key)
        except TimeoutError:
            return True
        except DomainError as error:
            if error.code not in {ErrorCode.CHALLENGES_UNAVAILABLE, ErrorCode.CHALLENGES_MISCONFIGURED}:
                raise
            return True
        return verdict.passed
