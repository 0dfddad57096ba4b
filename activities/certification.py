"""Counts a sealed survey again from its ballots, publishes them, and signs what was found."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

from temporalio import activity

from activities.failures import to_application_error
from domain.certificates import certificate_id, certificate_of, envelope, signed_bytes
from domain.certification_ports import Recounter
from domain.contracts.certification import (
    CellRecount,
    CertifySurveyInput,
    PublishBallotsInput,
    PublishedBallots,
    RecountCellInput,
    RecountProgress,
    SignedCertificate,
)
from domain.errors import DomainError
from domain.pieces import joined, one_piece
from domain.survey_ports import ObjectStore


class CertificateSigner(Protocol):
    """Signs with the current key for certificates."""

    async def sign(self, message: bytes) -> tuple[str, bytes]:
        """Return the key's id and the signature (64 bytes). Raises DomainError `key_unavailable`."""
        ...


class CertificationActivities:
    """Recounts and certifies; holds the ports so that a test can pass its own."""

    def __init__(
        self, recounter: Recounter, signer: CertificateSigner, objects: ObjectStore, *, build: str, retention: timedelta
    ) -> None:
        """`retention` is how long a survey's keys are kept after its certificate."""
        self._recounter = recounter
        self._signer = signer
        self._objects = objects
        self._build = build
        self._retention = retention

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.recount_cell, self.publish_ballots, self.sign_certificate]

    @activity.defn(name="recount_cell")
    async def recount_cell(self, request: RecountCellInput) -> CellRecount:
        """Open, check and add up every sealed ballot of a cell, and compare with what its batches counted.

        Heartbeats how far it is; repeated, it goes on from there.

        Raises:
            ApplicationError: `survey_not_found`, `key_destroyed`; `ledger_unavailable`, `key_unavailable` (retried).
        """
        try:
            return await self._recounter.recount(request, _progress(), activity.heartbeat)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="publish_ballots")
    async def publish_ballots(self, request: PublishBallotsInput) -> PublishedBallots:
        """Write every opened ballot into files for everyone. Safe to repeat: the files are the same to the byte.

        Raises:
            ApplicationError: `survey_not_found`, `key_destroyed`; `ledger_unavailable`, `key_unavailable`,
                `objects_unavailable` (retried).
        """
        try:
            return await self._recounter.publish(request, activity.heartbeat)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="sign_certificate")
    async def sign_certificate(self, request: CertifySurveyInput) -> SignedCertificate:
        """Write and sign the certificate. Safe to repeat: the first one stays, and is returned.

        Raises:
            ApplicationError: `key_unavailable`, `objects_unavailable` (retried).
        """
        survey_id = request.survey.id
        document = certificate_of(request, self._build)
        name = f"certificates/{survey_id}_{certificate_id(document)}.json"
        try:
            key_id, signature = await self._signer.sign(signed_bytes(document))
            stored = await self._objects.put(name, one_piece(envelope(document, key_id, signature)))
            kept = json.loads(await joined(self._objects.read(name)))
        except DomainError as error:
            raise to_application_error(error) from error
        return SignedCertificate(
            survey_id=survey_id,
            certificate_id=kept["id"],
            key_id=kept["signature"]["keyId"],
            certified_at=request.certified_at,
            retained_until=request.certified_at + self._retention,
            stored=stored,
        )


def _progress() -> RecountProgress:
    details = activity.info().heartbeat_details
    return RecountProgress.model_validate_json(json.dumps(details[0])) if details else RecountProgress()
