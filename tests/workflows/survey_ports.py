"""The ports that `RunSurvey` and certification stand on, in memory."""

import secrets
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from domain.contracts.certification import (
    CellRecount,
    CertificationDifference,
    CertificationState,
    DestroySurveyKeysInput,
    InstallCertificateInput,
    PublishBallotsInput,
    PublishedBallots,
    RecountCellInput,
    RecountProgress,
    SealedCell,
)
from domain.contracts.exports import StoredObject
from domain.contracts.surveys import (
    CorrectSurveyInput,
    ExtendSurveyInput,
    FinishSurveyInput,
    FreezeSurveyInput,
    InstallSurveyInput,
    OpenSurveyInput,
    SurveyIntake,
    SurveyKeys,
    SurveyStage,
    SurveyWindow,
)
from domain.draining import CLOCKS_AGREE_WITHIN, BatchExecution, ClosingWindow, GatewayRows
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId
from domain.merkle import EMPTY_ROOT
from domain.ports import DataKey
from domain.survey_drafts import CatalogueEntry


class Catalogue:
    """The catalogue's promises, in memory."""

    def __init__(self, entry: CatalogueEntry) -> None:
        self.entry = entry
        self.kept: SurveyKeys | None = None
        self.frozen = 0
        self.finished = 0

    async def freeze(self, request: FreezeSurveyInput) -> CatalogueEntry:
        if self.entry.stage is SurveyStage.DRAFT:
            if request.expected_version not in (None, self.entry.survey.version):
                raise DomainError(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")
            self.frozen += 1
            self._next(SurveyStage.PUBLISHING)
        return self.entry

    async def keys(self, survey_id: str) -> SurveyKeys | None:
        assert survey_id == self.entry.survey.id
        return self.kept

    async def keep_keys(self, keys: SurveyKeys) -> SurveyKeys:
        self.kept = self.kept or keys
        return self.kept

    async def open(self, request: OpenSurveyInput) -> CatalogueEntry:
        if self.entry.stage is SurveyStage.PUBLISHING:
            self._next(SurveyStage.PUBLISHED, start_at=request.start_at, finish_at=request.finish_at)
        return self.entry

    async def finish(self, request: FinishSurveyInput) -> CatalogueEntry:
        if self.entry.stage is SurveyStage.PUBLISHED:
            self.finished += 1
            self._next(SurveyStage.FINISHED, start_at=request.start_at, finish_at=request.finish_at)
        return self.entry

    async def set_intake(self, request: SurveyIntake) -> CatalogueEntry:
        if self.entry.is_paused != request.paused:
            self.entry = replace(self.entry, is_paused=request.paused)
            self._next(self.entry.stage)
        return self.entry

    async def extend(self, request: ExtendSurveyInput) -> CatalogueEntry:
        if self.entry.survey.finish_at != request.finish_at:
            self._next(self.entry.stage, finish_at=request.finish_at)
        return self.entry

    async def correct(self, request: CorrectSurveyInput) -> CatalogueEntry:
        if request.expected_version == self.entry.survey.version:
            self.entry = replace(self.entry, survey=request.survey)
        elif request.survey != self.entry.survey:
            raise DomainError(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")
        return self.entry

    def _next(self, stage: SurveyStage, **update: Any) -> None:
        survey = self.entry.survey
        update["version"] = survey.version + 1
        self.entry = replace(self.entry, stage=stage, survey=survey.model_copy(update=update))


class Keys:
    """Makes keys that can be told apart."""

    async def generate_data_key(self, purpose: str, context: str) -> DataKey:
        return DataKey(b"plain", f"{purpose} {context} {secrets.token_hex(4)}".encode())


class Cell:
    """A cell's copy, which holds nothing back: what is written twice shows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.installed: list[InstallSurveyInput] = []
        self.windows: list[SurveyWindow] = []
        self.intakes: list[bool] = []
        self.sealed_at: datetime | None = None
        self.certificates: list[str] = []
        self.has_keys = True
        self.is_away = False
        self.has_lost_it = False  # restored from before the survey was published, say
        self.batch: BatchExecution | None = None  # number 1 of the cell's gateway, which has no row
        self.ballots = 0

    async def install(self, request: InstallSurveyInput) -> None:
        self._refuse()
        self.installed.append(request)

    async def set_window(self, window: SurveyWindow, now: Callable[[], datetime]) -> None:
        self._refuse()
        assert self.installed, "a window for what is not there"
        self.windows.append(window)

    async def set_intake(self, request: SurveyIntake) -> None:
        self._refuse()
        self.intakes.append(request.paused)

    async def window(self, survey_id: str) -> ClosingWindow:
        self._refuse()
        last = self.windows[-1]
        assert last.start_at is not None
        assert last.finish_at is not None
        # what follows an end is not what these tests wait for: it is as long ago as clocks may differ
        earlier = CLOCKS_AGREE_WITHIN
        return ClosingWindow(last.start_at - earlier, last.finish_at - earlier, datetime.now(UTC))

    async def gateways(self) -> tuple[GatewayRows, ...]:
        return (GatewayRows(bytes(16), 1, 0),)

    async def registered(self, gateways: Collection[bytes]) -> set[bytes]:
        return set(gateways)

    async def running(self, before: datetime) -> set[BatchId]:
        return set()

    async def is_recorded(self, batch: BatchId) -> bool:
        assert batch.number == 1
        return False

    async def describe(self, batch: BatchId) -> BatchExecution | None:
        return self.batch if batch.number == 1 else None

    async def seal(self, survey_id: str) -> SealedCell:
        self._refuse()
        finish_at = self.windows[-1].finish_at
        assert finish_at is not None
        self.sealed_at = self.sealed_at or datetime.now(UTC)
        return SealedCell(cell=self.name, closed_at=finish_at, sealed_at=self.sealed_at)

    async def install_certificate(self, request: InstallCertificateInput) -> None:
        self._refuse()
        self.certificates.append(request.certificate_id)

    async def destroy_keys(self, survey_id: str) -> None:
        self._refuse()
        self.has_keys = False

    def _refuse(self) -> None:
        if self.is_away:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "away")
        if self.has_lost_it:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND, "lost")


class Certifications:
    """The catalogue's promises about certification, in memory."""

    def __init__(self) -> None:
        self.states: list[CertificationState] = []
        self.asked: list[str] = []
        self.are_keys_destroyed = False

    async def note(self, state: CertificationState, actor: str = "") -> None:
        if not self.states or self.states[-1].revision < state.revision:
            self.states.append(state)
            self.asked += [actor] if actor else []

    async def destroy_keys(self, request: DestroySurveyKeysInput) -> None:
        certificate = self.states[-1].certificate
        if certificate is None or certificate.retained_until > request.at:
            raise DomainError(ErrorCode.SURVEY_NOT_CERTIFIED)
        self.are_keys_destroyed = True


class Objects:
    """An object store: of a name the first file stays."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> StoredObject:
        content = self.files.setdefault(name, b"".join([piece async for piece in pieces]))
        return StoredObject(name=name, size_bytes=len(content), sha256=sha256(content).digest())

    async def read(self, name: str) -> AsyncIterator[bytes]:
        yield self.files[name]


class Signer:
    async def sign(self, message: bytes) -> tuple[str, bytes]:
        assert message
        return "certificate/2026-01-02/1", bytes(64)


class Recounter:
    """Counts what the cells of the world say that they have; a test may make it differ."""

    def __init__(self, cells: dict[str, Cell]) -> None:
        self._cells = cells
        self.differences: tuple[CertificationDifference, ...] = ()

    async def recount(self, request: RecountCellInput, progress: RecountProgress, keep: Any) -> CellRecount:
        keep(progress)
        ballots = self._cells[request.cell].ballots
        differences = tuple(found for found in self.differences if found.cell == request.cell)
        return CellRecount(
            cell=request.cell,
            participations=ballots,
            ballots=ballots,
            batches=ballots,
            participations_root=bytes(32),
            ballots_root=bytes(32),
            batches_root=bytes(32),
            differences=differences,
        )

    async def publish(self, request: PublishBallotsInput, beat: Any) -> PublishedBallots:
        beat()
        return PublishedBallots(files=(), ballots=request.ballots, root=EMPTY_ROOT)
