"""Cases at the providers of identity proofing. What names a person ends here: a history gets keyed hashes of it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from domain.accounts import LookupHashes, PersonalData, PersonalRecords
from domain.contracts.registration import (
    CaseFinding,
    CaseReference,
    ErasedCase,
    HashedValue,
    OpenCaseInput,
    OpenedCase,
    hashed_values,
)
from domain.errors import DomainError, ErrorCode
from domain.proofing import Document, IdentityProofing, age_on
from domain.registration import ADVICE_FIELD, age_class_of


class ProofingActivities:
    """Asks the providers, by name; holds the ports so that a test can pass its own."""

    def __init__(
        self, providers: Mapping[str, IdentityProofing], hashes: LookupHashes, records: PersonalRecords
    ) -> None:
        self._providers = providers
        self._hashes = hashes
        self._records = records

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.open_case, self.read_case, self.allow_retry, self.erase_case]

    @activity.defn(name="open_case")
    async def open_case(self, request: OpenCaseInput) -> OpenedCase:
        """Open a case. Safe to repeat: the same id is the same case.

        Raises:
            ApplicationError: `proofing_unavailable` (retried), `proofing_refused` (a fault).
        """
        try:
            return OpenedCase(reference=await self._provider(request.provider).open_case(request.case_id))
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="read_case")
    async def read_case(self, case: CaseReference) -> CaseFinding:
        """Return what the provider says of a case now: the only source that decides anything. Safe to repeat.

        What it advises the person is kept with the person's data, and the document only as its keyed hashes.

        Raises:
            ApplicationError: `proofing_unavailable`, `directory_unavailable`, `key_unavailable` (retried),
                `proofing_refused` (a fault).
        """
        try:
            provider = self._provider(case.provider)
            found = await provider.read_case(case.reference)
            if found.advice:
                await self._keep_advice(case.voter_id, found.advice)
            today = datetime.now(UTC).date()
            return CaseFinding(
                state=found.state,
                attempt=found.attempt,
                reasons=found.reasons,
                risk_labels=found.risk_labels,
                same_face=found.same_face,
                documents=await self._hashed(found.document),
                age_class=None if found.born_on is None else age_class_of(age_on(found.born_on, today)),
                assurance=provider.assurance,
            )
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="allow_retry")
    async def allow_retry(self, case: CaseReference) -> None:
        """Let the person hand in new evidence. Safe to repeat.

        Raises:
            ApplicationError: `proofing_unavailable` (retried), `proofing_refused` (a fault).
        """
        try:
            await self._provider(case.provider).allow_retry(case.reference)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="erase_case")
    async def erase_case(self, case: CaseReference) -> ErasedCase:
        """Ask the provider to erase a case that leads to no account. Safe to repeat; it confirms in its own time.

        Raises:
            ApplicationError: `proofing_unavailable` (retried), `proofing_refused` (a fault).
        """
        try:
            return ErasedCase(confirmed=await self._provider(case.provider).erase(case.reference))
        except DomainError as error:
            raise to_application_error(error) from error

    def _provider(self, name: str) -> IdentityProofing:
        if name not in self._providers:  # a worker that is not given its credentials yet; another one may be
            raise DomainError(ErrorCode.PROOFING_UNAVAILABLE, f"no provider {name} here")
        return self._providers[name]

    async def _keep_advice(self, voter_id: str, advice: str) -> None:
        try:
            await self._records.put(voter_id, PersonalData({ADVICE_FIELD: advice}))
        except DomainError as error:
            if error.code is not ErrorCode.KEY_DESTROYED:  # then nobody is left to advise
                raise

    async def _hashed(self, document: Document | None) -> tuple[HashedValue, ...]:
        if document is None:
            return ()
        try:
            hashes = await self._hashes.document(document)
        except DomainError as error:
            if error.code is not ErrorCode.MALFORMED_REQUEST:  # garbled: as good as none
                raise
            return ()
        return hashed_values(hashes)
