"""The end of a survey as histories keep it: drained, sealed, recounted, published, certified."""

from datetime import datetime
from enum import StrEnum

from domain.contracts.base import Contract
from domain.contracts.exports import StoredObject
from domain.contracts.surveys import Survey
from domain.contracts.voting import RegionCounts


class CertificationStage(StrEnum):
    """How far a finished survey is on its way to a certificate."""

    DRAINING = "draining"  # every batch of every gateway is being accounted for
    RECONCILING = "reconciling"
    RECOUNTING = "recounting"
    PUBLISHING = "publishing_ballots"
    UNCERTIFIED = "uncertified"  # differences were found; tried again when staff ask
    CERTIFIED = "certified"
    KEYS_DESTROYED = "keys_destroyed"


class CertificationDifference(Contract):
    """Something that keeps a survey from being certified, named to the row.

    `kind` is a stable word; `row` names the row (`batch {gateway}-{number}`, `ballot {id}`, ...) and never a voter or a
    choice; `detail` is for people.
    """

    cell: str
    kind: str
    row: str
    detail: str = ""


class CellSurveyReference(Contract):
    """Names a survey in one cell."""

    cell: str
    survey_id: str


class DrainedCell(Contract):
    """A cell whose every batch from before the end is accounted for.

    `never_started` counts the numbers that a gateway took and Temporal never got; nobody was told of an acceptance.
    Differences are batches that were accepted and that nobody will record.
    """

    cell: str
    closed_at: datetime
    gateways: int
    never_started: int = 0
    differences: tuple[CertificationDifference, ...] = ()


class SealedCell(Contract):
    """A cell that takes no vote of the survey any more, whenever it was accepted."""

    cell: str
    closed_at: datetime
    sealed_at: datetime
    never_started: int = 0


class RecountCellInput(Contract):
    """A sealed survey to count again from its ballots in one cell."""

    cell: str
    survey: Survey


class RecountProgress(Contract):
    """Where an interrupted recount goes on: ballots up to `after` are in the counts and in the tree."""

    after: bytes = b""  # 16 bytes, a ballot's id; empty before the first
    ballots: int = 0
    regions: tuple[RegionCounts, ...] = ()
    peaks: tuple[bytes, ...] = ()  # of the tree over the ballots, see domain/merkle.py
    differences: tuple[CertificationDifference, ...] = ()


class CellRecount(Contract):
    """What one cell's sealed ballots say, beside what its ledger says; roots as in RFC 9162, 32 bytes.

    Leaves of the roots: participations by nullifier, ballots by id, batches by gateway and number.
    """

    cell: str
    participations: int
    ballots: int
    batches: int
    participations_root: bytes
    ballots_root: bytes
    batches_root: bytes
    regions: tuple[RegionCounts, ...] = ()
    differences: tuple[CertificationDifference, ...] = ()


class PublishBallotsInput(Contract):
    """The opened ballots of a survey to publish; `ballots` is how many the recount found."""

    survey: Survey
    cells: tuple[str, ...]
    ballots: int


class BallotFile(Contract):
    """One published file and how many ballots it has."""

    stored: StoredObject
    ballots: int


class PublishedBallots(Contract):
    """What was published; `root` is the tree hash over all lines of all files in order."""

    files: tuple[BallotFile, ...]
    ballots: int
    root: bytes
    regions: tuple[RegionCounts, ...] = ()


class ReconciledSurvey(Contract):
    """The complete reconciliation that a certificate stands on."""

    workflow_id: str
    at: datetime


class CertifySurveyInput(Contract):
    """Everything that a certificate states."""

    survey: Survey
    sealed: tuple[SealedCell, ...]
    recounts: tuple[CellRecount, ...]
    published: PublishedBallots
    reconciled: ReconciledSurvey
    certified_at: datetime


class SignedCertificate(Contract):
    """A certificate in the object store; its id is made of its content. Keys may be destroyed from `retained_until`."""

    survey_id: str
    certificate_id: str
    key_id: str
    certified_at: datetime
    retained_until: datetime
    stored: StoredObject


class InstallCertificateInput(Contract):
    """Certified totals for one cell, whose results they are from now on."""

    cell: str
    survey_id: str
    certificate_id: str
    certified_at: datetime
    regions: tuple[RegionCounts, ...] = ()


class DestroySurveyKeysInput(Contract):
    """The keys of a certified survey are to be destroyed everywhere: in the catalogue, then in these cells."""

    survey_id: str
    at: datetime


class CertificationState(Contract):
    """How the certification of a survey stands: what queries answer, the catalogue shows and the next run is handed.

    `revision` rises with every change, `attempt` with every try.
    """

    survey_id: str
    stage: CertificationStage
    revision: int = 0
    attempt: int = 0
    sealed: tuple[SealedCell, ...] = ()
    differences: tuple[CertificationDifference, ...] = ()
    files: tuple[BallotFile, ...] = ()
    certificate: SignedCertificate | None = None
    keys_destroyed_at: datetime | None = None


class RequestCertification(Contract):
    """Who asks for another try."""

    actor: str


class NoteCertificationInput(Contract):
    """A state for the catalogue; `actor` is who asked for this try, empty where nobody did."""

    state: CertificationState
    actor: str = ""
