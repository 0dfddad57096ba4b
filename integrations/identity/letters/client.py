"""Identity proofing without biometrics: a document checked against its register, and a code by letter."""

from collections.abc import Generator
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import httpx
import msgspec

from domain.proofing import ClientAccess, Document, ProofingFinding, ProofingState
from domain.tokens import Assurance
from integrations.identity.calls import ProviderCalls
from integrations.vendor_http import VendorClient
from integrations.vendor_settings import LettersSettings

_ADVICE_CHARACTERS_MAX: Final = 2000
_REASONS_MAX: Final = 50


class CaseState(StrEnum):
    """The provider's words for where a case stands."""

    AWAITING_DATA = "awaiting_data"
    AWAITING_CODE = "awaiting_code"  # a letter is on its way
    CHECKING = "checking"
    ACCEPTED = "accepted"
    INCOMPLETE = "incomplete"
    REFUSED = "refused"
    ERASED = "erased"


_STATES: Final = {
    CaseState.AWAITING_DATA: ProofingState.WAITING_FOR_PERSON,
    CaseState.AWAITING_CODE: ProofingState.WAITING_FOR_PERSON,
    CaseState.CHECKING: ProofingState.IN_REVIEW,
    CaseState.ACCEPTED: ProofingState.APPROVED,
    CaseState.INCOMPLETE: ProofingState.RETRY,
    CaseState.REFUSED: ProofingState.REJECTED,
    CaseState.ERASED: ProofingState.GONE,
}


class Reason(StrEnum):
    """Why a case is incomplete or refused."""

    NOT_IN_REGISTER = "not_in_register"
    DATA_MISMATCH = "data_mismatch"
    DOCUMENT_REVOKED = "document_revoked"
    CODE_WRONG = "code_wrong"
    CODE_EXPIRED = "code_expired"
    ADDRESS_UNDELIVERABLE = "address_undeliverable"


class _RegisteredDocument(msgspec.Struct, rename="camel"):
    country: str
    kind: str
    number: str


class _Case(msgspec.Struct, rename="camel"):
    id: str
    case_id: str
    state: CaseState
    attempt: int = 1
    reasons: list[Reason] = []
    advice: str = ""
    document: _RegisteredDocument | None = None
    born_on: date | None = None


class _Access(msgspec.Struct, rename="camel"):
    token: str
    expires_at: datetime


class _BearerKey(httpx.Auth):
    def __init__(self, key: str) -> None:
        self._authorization = f"Bearer {key}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        request.headers["authorization"] = self._authorization
        yield request


class LettersProofing:
    """The register's service: a case has our id and theirs, and opening it twice is opening it once."""

    def __init__(self, client: VendorClient, settings: LettersSettings) -> None:
        """`client` has the provider's base URL."""
        self._calls = ProviderCalls(client, settings.timeout_s, _BearerKey(settings.api_key.get_secret_value()))
        self._access_ttl_s = settings.access_ttl_s

    @property
    def assurance(self) -> Assurance:
        """A document that exists and an address where its holder gets letters; nobody was looked at."""
        return Assurance.SUBSTANTIAL

    async def open_case(self, case_id: str) -> str:
        """Return the provider's id of the case."""
        return (await self._case("PUT", f"/v1/cases/by-case-id/{quote(case_id, safe='')}", case_id=case_id)).id

    async def client_access(self, case_id: str) -> ClientAccess:
        """Return a token for the pages on which the person types the document and the code; opens the case."""
        reference = await self.open_case(case_id)
        body = {"ttlSeconds": self._access_ttl_s}
        access = await self._calls.ask("POST", f"{_path(reference)}/access", _Access, body)
        if access.expires_at.tzinfo is None:
            raise self._calls.unavailable("a time without an offset")
        return ClientAccess(access.token, access.expires_at.astimezone(UTC))

    async def read_case(self, reference: str) -> ProofingFinding:
        """Return what the provider says now."""
        answer = await self._calls.send("GET", _path(reference))
        if answer.status == httpx.codes.NOT_FOUND:
            return ProofingFinding(ProofingState.GONE)
        case = self._calls.read(answer, _Case)
        if case.id != reference:
            raise self._calls.unavailable("another case")
        state = _STATES[case.state]
        document = case.document
        if state is not ProofingState.APPROVED:
            reasons = tuple(reason.value for reason in case.reasons[:_REASONS_MAX])
            advice = case.advice[:_ADVICE_CHARACTERS_MAX]
            return ProofingFinding(state, attempt=case.attempt, reasons=reasons, advice=advice)
        if document is None or case.born_on is None:
            raise self._calls.unavailable("an approval without a document or a date of birth")
        found = Document(document.country, document.kind, document.number)
        return ProofingFinding(state, attempt=case.attempt, document=found, born_on=case.born_on)

    async def allow_retry(self, reference: str) -> None:
        """Let an incomplete case begin its next attempt; no-op for one that waits for the person already."""
        answer = await self._calls.send("POST", f"{_path(reference)}/retry")
        if answer.status == httpx.codes.CONFLICT:
            finding = await self.read_case(reference)
            if finding.state in {ProofingState.WAITING_FOR_PERSON, ProofingState.IN_REVIEW}:
                return
        self._calls.read(answer, _Case)

    async def erase(self, reference: str) -> bool:
        """Erase the case, which the provider does at once, and says by 204 and nothing else."""
        answer = await self._calls.send("DELETE", _path(reference))
        if answer.status not in {httpx.codes.NOT_FOUND, httpx.codes.NO_CONTENT}:
            self._calls.succeeded(answer)
            raise self._calls.unavailable(f"status {answer.status} for an erasure")
        return True

    async def _case(self, method: str, path: str, *, case_id: str) -> _Case:
        case = await self._calls.ask(method, path, _Case)
        if case.case_id != case_id or not case.id:
            raise self._calls.unavailable("another case")
        return case


def _path(reference: str) -> str:
    return f"/v1/cases/{quote(reference, safe='')}"
