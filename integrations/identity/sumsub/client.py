"""Identity proofing with Sumsub."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import httpx
import msgspec

from domain.proofing import ClientAccess, ProofingFinding, ProofingState
from domain.tokens import Assurance
from integrations.identity.calls import ProviderCalls
from integrations.identity.sumsub.mapping import Applicant, NotUnderstoodError, finding_of
from integrations.identity.sumsub.signing import SumsubAuth
from integrations.vendor_http import VendorAnswer, VendorClient
from integrations.vendor_settings import SumsubSettings

_CLOCKS_DIFFER: Final = 4004
_ALREADY_SO: Final = frozenset({1008, 3000})  # marked as deleted; in that state already


class _Access(msgspec.Struct):
    token: str


class _Step(msgspec.Struct, rename="camel"):
    image_ids: list[int] | None = None


class SumsubProofing:
    """One level of checks at Sumsub. Our case id is its `externalUserId`, the reference is its applicant id."""

    def __init__(self, client: VendorClient, settings: SumsubSettings, now: Callable[[], float] = time.time) -> None:
        """`client` has Sumsub's base URL; `now` gives seconds since 1970."""
        auth = SumsubAuth(settings.app_token.get_secret_value(), settings.secret_key.get_secret_value(), now)
        self._calls = ProviderCalls(client, settings.timeout_s, auth)
        self._settings = settings
        self._now = now

    @property
    def assurance(self) -> Assurance:
        """A document and a liveness check, as the level asks for."""
        return Assurance.HIGH

    async def open_case(self, case_id: str) -> str:
        """Return the applicant's id, whoever made it: also we, in a call whose answer was lost."""
        answer = await self._send(
            "POST",
            f"/resources/applicants?levelName={quote(self._settings.level, safe='')}",
            {"externalUserId": case_id, "type": "individual"},
        )
        if answer.status == httpx.codes.CONFLICT:
            answer = await self._send("GET", f"/resources/applicants/-;externalUserId={quote(case_id, safe='')}/one")
            if answer.status == httpx.codes.NOT_FOUND:
                raise self._calls.unavailable("a conflict over nothing")
        applicant = self._calls.read(answer, Applicant)
        if applicant.external_user_id != case_id or not applicant.id:
            raise self._calls.unavailable("the applicant of another case")
        return applicant.id

    async def client_access(self, case_id: str) -> ClientAccess:
        """Return an access token of the SDKs; the first one of a case makes its applicant, as `open_case` does."""
        ttl_s = self._settings.access_ttl_s
        expires_at = datetime.fromtimestamp(self._now() + ttl_s, UTC)
        answer = await self._send(
            "POST",
            "/resources/accessTokens/sdk",
            {"userId": case_id, "levelName": self._settings.level, "ttlInSecs": ttl_s},
        )
        return ClientAccess(self._calls.read(answer, _Access).token, expires_at)

    async def read_case(self, reference: str) -> ProofingFinding:
        """Return what Sumsub says now; an applicant that is unknown, erased or deactivated is gone."""
        applicant = await self._applicant(reference)
        if applicant is None:
            return ProofingFinding(ProofingState.GONE)
        try:
            return finding_of(applicant)
        except NotUnderstoodError as error:
            raise self._calls.unavailable(str(error)) from None

    async def allow_retry(self, reference: str) -> None:
        """Do nothing: after a RETRY the SDK asks for what is wanted by itself.

        The case reads RETRY until the person has answered; then its attempt has a higher number. A reset would throw
        away the steps that were good, and what speaks against the applicant.
        """

    async def erase(self, reference: str) -> bool:
        """Deactivate the applicant, and tell whether it is gone or says and shows nothing of anybody.

        Sumsub erases by agreement and not by a call: until it has, the answer is False.
        """
        applicant = await self._applicant(reference)
        if applicant is None:
            return True
        if applicant.deleted:
            return not applicant.names_somebody and not await self._has_images(reference)
        answer = await self._send("PATCH", f"{_path(reference)}/presence/deactivated")
        if answer.status == httpx.codes.NOT_FOUND:
            return True
        if answer.status != httpx.codes.CONFLICT:
            self._calls.succeeded(answer)
        elif self._calls.failure(answer).error_code not in _ALREADY_SO:
            raise self._calls.unavailable("a review is on", answer)
        return False

    async def _applicant(self, reference: str) -> Applicant | None:
        answer = await self._send("GET", f"{_path(reference)}/one")
        if answer.status == httpx.codes.NOT_FOUND:
            return None
        applicant = self._calls.read(answer, Applicant)
        if applicant.id != reference:
            raise self._calls.unavailable("another applicant")
        return applicant

    async def _has_images(self, reference: str) -> bool:
        answer = await self._send("GET", f"{_path(reference)}/requiredIdDocsStatus")
        steps = self._calls.read(answer, dict[str, _Step | None])
        return any(step is not None and step.image_ids for step in steps.values())

    async def _send(self, method: str, path: str, body: object = None) -> VendorAnswer:
        answer = await self._calls.send(method, path, body)
        unauthorized = answer.status == httpx.codes.UNAUTHORIZED
        if unauthorized and self._calls.failure(answer).error_code == _CLOCKS_DIFFER:
            # No fault of the request: it will be taken once our clock is right
            raise self._calls.unavailable("our clock and the provider's differ by more than a minute")
        return answer


def _path(reference: str) -> str:
    return f"/resources/applicants/{quote(reference, safe='')}"
