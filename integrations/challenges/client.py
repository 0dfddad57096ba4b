"""Cloudflare Turnstile's siteverify: redeems the token that a client's widget earned."""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from domain.challenges import ChallengeAction, ChallengeVerdict
from domain.errors import DomainError, ErrorCode
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.vendor_http import JsonObject, VendorHttp, is_fault_of_vendor, open_vendor_client
from integrations.vendor_settings import TurnstileSettings

TOKEN_MAX: Final = 2048
_TRIES: Final = 3
_AGE_MAX: Final = timedelta(seconds=300)
_SKEW_MAX: Final = timedelta(seconds=30)
_CODE: Final = re.compile(r"[a-z-]{1,40}")
_OURS: Final = frozenset({"missing-input-secret", "invalid-input-secret", "bad-request"})
_THEIRS: Final = "internal-error"
_OK: Final = 200

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_turnstile(
    settings: TurnstileSettings, metrics: VendorMetrics | None = None
) -> AsyncIterator["TurnstileChallenge"]:
    """Open the client; nothing is asked of the vendor yet."""
    calls = None if metrics is None else metrics.of("turnstile")
    async with open_vendor_client(settings.base_url, calls=calls) as client:
        http = VendorHttp(client, ErrorCode.CHALLENGES_UNAVAILABLE, timeout_s=settings.timeout_s)
        yield TurnstileChallenge(http, settings)


class TurnstileChallenge:
    """Implements `BotChallenge`.

    Under one of the vendor's testing keys (which production refuses to start with) only the verdict itself counts;
    under any other, an answer that a testing key gave is refused.
    """

    def __init__(self, http: VendorHttp, settings: TurnstileSettings, *, now: Callable[[], float] = time.time) -> None:
        self._http = http
        self._settings = settings
        self._now = now

    async def redeem(self, token: str, action: ChallengeAction, nonce: str, idempotency_key: str) -> ChallengeVerdict:
        """Return the verdict on a token; tried up to three times under the one key, as long as a call may take."""
        if not 0 < len(token) <= TOKEN_MAX:
            return ChallengeVerdict(passed=False, reasons=("token_malformed",))
        answer = await self._verify(
            {
                "secret": self._settings.secret.get_secret_value(),
                "response": token,
                "idempotency_key": idempotency_key,
            }
        )
        if answer["success"] is not True:
            return ChallengeVerdict(passed=False, reasons=_codes(answer) or ("unexplained",))
        reasons = () if self._settings.is_testing else tuple(self._contradictions(answer, action, nonce))
        return ChallengeVerdict(passed=not reasons, reasons=reasons)

    async def _verify(self, fields: dict[str, str]) -> JsonObject:
        """Return the vendor's verdict of either kind."""
        give_up_at = time.monotonic() + self._settings.timeout_s
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._ask(fields)
            except DomainError as error:
                again = error.code is ErrorCode.CHALLENGES_UNAVAILABLE and attempt < _TRIES
                if not again or time.monotonic() >= give_up_at:
                    raise
        raise AssertionError("unreachable")

    async def _ask(self, fields: dict[str, str]) -> JsonObject:
        answer, content = await self._http.send_for_json("POST", "/siteverify", data=fields)
        codes = _codes(content)
        if ours := _OURS.intersection(codes):
            log.error("turnstile_refuses", codes=sorted(ours))
            raise DomainError(ErrorCode.CHALLENGES_MISCONFIGURED, ", ".join(sorted(ours)))
        unexplained = answer.status != _OK and not codes
        if _THEIRS in codes or unexplained or is_fault_of_vendor(answer.status):
            raise self._http.unavailable(f"status {answer.status}", answer)
        if not isinstance(content.get("success"), bool):
            raise self._http.unavailable("no verdict in the answer")
        return content

    def _contradictions(self, answer: JsonObject, action: ChallengeAction, nonce: str) -> Iterator[str]:
        """Tell why a token that is good is not good for this."""
        metadata = answer.get("metadata")
        if isinstance(metadata, dict) and metadata.get("result_with_testing_key"):
            yield "testing_key"
        if answer.get("hostname") not in self._settings.hostnames:
            yield "hostname_unexpected"
        if answer.get("action") != action.value:
            yield "action_unexpected"
        if not nonce or answer.get("cdata") != nonce:
            yield "nonce_mismatch"
        age = self._age(answer.get("challenge_ts"))
        if age is None:
            yield "challenge_undated"
        elif not -_SKEW_MAX <= age <= _AGE_MAX + _SKEW_MAX:
            yield "challenge_old" if age > _AGE_MAX else "challenge_ahead"

    def _age(self, solved_at: Any) -> timedelta | None:
        try:
            return timedelta(seconds=self._now() - datetime.fromisoformat(solved_at).timestamp())
        except (TypeError, ValueError, OverflowError):
            return None


def _codes(answer: JsonObject) -> tuple[str, ...]:
    """Return the vendor's codes, as far as they look like codes: they reach logs."""
    codes = answer.get("error-codes")
    return tuple(
        code for code in (codes if isinstance(codes, list) else ()) if isinstance(code, str) and _CODE.fullmatch(code)
    )
