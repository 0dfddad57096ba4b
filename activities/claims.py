"""Claims of documents, each in the cell that its hash selects."""

from collections.abc import Callable, Mapping
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from activities.known_cells import known
from domain.accounts import DocumentClaims, KeyedHash
from domain.contracts.accounts import ReleaseClaimsInput
from domain.contracts.registration import ClaimDocumentInput, ClaimedDocument
from domain.errors import DomainError, ErrorCode


class ClaimActivities:
    """Claims in any cell; holds the ports so that a test can pass its own."""

    def __init__(self, cells: Mapping[str, DocumentClaims]) -> None:
        self._cells = cells

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.claim_document, self.release_document, self.release_claims, self.settle_document]

    @activity.defn(name="claim_document")
    async def claim_document(self, request: ClaimDocumentInput) -> ClaimedDocument:
        """Claim a document for a voter. Safe to repeat: the holder is granted it again.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            found = await self._claims(request).claim(
                _hash(request), request.person_id, request.home_cell, request.voter_id
            )
        except DomainError as error:
            raise to_application_error(error) from error
        return ClaimedDocument(state=found.state, person_id=found.person_id, home_cell=found.home_cell)

    @activity.defn(name="release_document")
    async def release_document(self, request: ClaimDocumentInput) -> None:
        """Let go of a claim. Safe to repeat, and no-op for who does not hold it.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            await self._claims(request).release(_hash(request), request.voter_id)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="release_claims")
    async def release_claims(self, request: ReleaseClaimsInput) -> None:
        """Let go of every claim that a voter holds in a cell. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            await self._claims(request).release_all(request.voter_id)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="settle_document")
    async def settle_document(self, request: ClaimDocumentInput) -> None:
        """Note that a claim has led to an account. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            await self._claims(request).settle(_hash(request), request.voter_id)
        except DomainError as error:
            raise to_application_error(error) from error

    def _claims(self, request: ClaimDocumentInput | ReleaseClaimsInput) -> DocumentClaims:
        return known(self._cells, request.claim_cell, ErrorCode.DIRECTORY_UNAVAILABLE)


def _hash(request: ClaimDocumentInput) -> KeyedHash:
    return KeyedHash(request.document.key_id, request.document.digest)
