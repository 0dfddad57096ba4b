"""The bodies of the calls around the end of a survey."""

from collections.abc import Mapping

from pydantic import Field

from api.http.models import ApiModel, Timestamp
from domain.contracts.certification import CertificationStage, CertificationState


class ExtendRequest(ApiModel):
    """A later end."""

    finish_date: Timestamp


class SealedCellBody(ApiModel):
    """A cell that takes no vote any more: when it closed, and since when that is final."""

    cell: str
    closed_at: Timestamp
    sealed_at: Timestamp


class DifferenceBody(ApiModel):
    """What keeps the survey from being certified, named to the row; `cell` is empty where it is none's."""

    cell: str
    kind: str
    row: str
    detail: str


class CertificationBody(ApiModel):
    """How the certification of a finished survey stands."""

    survey: str
    stage: CertificationStage
    attempt: int
    cells: tuple[SealedCellBody, ...]
    differences: tuple[DifferenceBody, ...]
    certificate_id: str | None = None
    certified_at: Timestamp | None = None
    retained_until: Timestamp | None = None
    keys_destroyed_at: Timestamp | None = None

    @classmethod
    def of(cls, state: CertificationState) -> "CertificationBody":
        """Return the body of a state."""
        certificate = state.certificate
        return cls(
            survey=state.survey_id,
            stage=state.stage,
            attempt=state.attempt,
            cells=tuple(
                SealedCellBody(cell=cell.cell, closed_at=cell.closed_at, sealed_at=cell.sealed_at)
                for cell in state.sealed
            ),
            differences=tuple(
                DifferenceBody(cell=found.cell, kind=found.kind, row=found.row, detail=found.detail)
                for found in state.differences
            ),
            certificate_id=None if certificate is None else certificate.certificate_id,
            certified_at=None if certificate is None else certificate.certified_at,
            retained_until=None if certificate is None else certificate.retained_until,
            keys_destroyed_at=state.keys_destroyed_at,
        )


class BallotFileBody(ApiModel):
    """One file of published ballots: one line of JSON each, in an order that says nothing."""

    number: int
    url: str
    sha256: str
    size_bytes: int
    ballots: int


class PublishedBallotsBody(ApiModel):
    """The published ballots of a certified survey."""

    survey: str
    certificate_id: str
    files: tuple[BallotFileBody, ...]

    @classmethod
    def of(cls, state: CertificationState) -> "PublishedBallotsBody":
        """Return the body of a certified survey's files."""
        assert state.certificate is not None
        return cls(
            survey=state.survey_id,
            certificate_id=state.certificate.certificate_id,
            files=tuple(
                BallotFileBody(
                    number=number,
                    url=f"/v1/surveys/{state.survey_id}/ballots/{number}",
                    sha256=file.stored.sha256.hex(),
                    size_bytes=file.stored.size_bytes,
                    ballots=file.ballots,
                )
                for number, file in enumerate(state.files, start=1)
            ),
        )


class CertificateKey(ApiModel):
    """A key that certificates are signed with: Ed25519, 32 bytes in hexadecimal."""

    key_id: str
    public_key: str


class CertificateKeys(ApiModel):
    """Every key that certificates were or are signed with; compare them with what was published elsewhere."""

    keys: tuple[CertificateKey, ...] = Field(strict=False)

    @classmethod
    def of(cls, keys: Mapping[str, bytes]) -> "CertificateKeys":
        """Return the body of keys by id."""
        return cls(keys=tuple(CertificateKey(key_id=key_id, public_key=key.hex()) for key_id, key in keys.items()))
