"""What reconciliation came to: `/v1/internal/surveys/{id}/reconciliation`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.models import ApiModel, Timestamp
from api.surveys.management import SurveyManagement
from domain.contracts.reconciliation import Difference, DifferenceKind
from domain.errors import DomainError, ErrorCode
from domain.reconciliation_ports import CellFindings, FindingsReader


def _named(description: str) -> str:
    return Field(default="", description=description, exclude_if=lambda value: not value)


class DifferenceBody(ApiModel):
    """Two things that must agree and do not; the fields that are there name the row."""

    kind: DifferenceKind = Field(strict=False)
    detail: str
    batch: str = _named("The gateway's id in hexadecimal, and the number there.")
    ballot: str = _named("The id of a sealed ballot.")
    participation: str = _named("The SHA-256 of a nullifier, in hexadecimal.")
    region: str = _named("A region of the survey.")
    option: str = _named("An option of the survey.")
    other_cell: str = _named("The other cell that is concerned.")
    expected: int | None = Field(default=None, exclude_if=lambda value: value is None)
    found: int | None = Field(default=None, exclude_if=lambda value: value is None)
    more: int = Field(
        default=0, description="Further ones that are not listed one by one.", exclude_if=lambda value: not value
    )

    @classmethod
    def of(cls, difference: Difference) -> "DifferenceBody":
        """Return a difference as staff see it."""
        return cls(**{name: getattr(difference, name) for name in cls.model_fields})


class RegionSumsBody(ApiModel):
    """What a cell's ledger has of one region."""

    region: str
    participations: int
    counted: int = Field(description="Ballots of the region by the counts of their batches.")


class CellFindingsBody(ApiModel):
    """What passes came to in one cell, up to the last one. Without `checkedAt` there was none yet."""

    cell: str
    participations: int
    ballots: int
    regions: tuple[RegionSumsBody, ...] = Field(strict=False)
    differences: tuple[DifferenceBody, ...] = Field(
        strict=False, description="What is open, at most 200 of a kind; the last of a kind says how many more."
    )
    checked_at: Timestamp | None = Field(default=None, exclude_if=lambda value: value is None)
    completed_at: Timestamp | None = Field(
        default=None, description="When everything was last read again.", exclude_if=lambda value: value is None
    )

    @classmethod
    def of(cls, found: CellFindings) -> "CellFindingsBody":
        """Return what a cell has as staff see it."""
        return cls(
            cell=found.cell,
            participations=found.participations,
            ballots=found.ballots,
            regions=tuple(
                RegionSumsBody(region=each.region, participations=each.participations, counted=each.counted)
                for each in found.regions
            ),
            differences=tuple(DifferenceBody.of(each) for each in found.differences),
            checked_at=found.checked_at,
            completed_at=found.completed_at,
        )


class ReconciliationBody(ApiModel):
    """How a survey's ledgers, tallies and cells agree. With a difference open, it cannot be certified."""

    survey: str
    agrees: bool = Field(description="Whether every cell answered and was checked, and nothing is open.")
    cells: tuple[CellFindingsBody, ...] = Field(strict=False)
    missing_cells: tuple[str, ...] = Field(strict=False)


def reconciliation_routes(
    management: SurveyManagement, findings: FindingsReader, admin: Callable[..., Awaitable[Principal]]
) -> APIRouter:
    """Return the route; `admin` lets in who may manage surveys."""
    router = APIRouter(prefix="/v1/internal/surveys", tags=["Reconciliation"], responses={**STAFF_RESPONSES})
    Admin = Annotated[Principal, Depends(admin)]  # noqa: N806 - a type
    problems = problem_responses(
        ErrorCode.SURVEY_NOT_FOUND, ErrorCode.CATALOGUE_UNAVAILABLE, ErrorCode.LEDGER_UNAVAILABLE
    )

    @router.get("/{survey_id}/reconciliation", summary="Read what reconciliation found", responses=problems)
    async def read_reconciliation(survey_id: str, _staff: Admin) -> ReconciliationBody:
        """Read what the last passes came to in every cell, and the differences that are open."""
        await management.get(survey_id)
        cells, missing = await findings.findings(survey_id)
        if not cells:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE)
        agrees = not missing and all(cell.checked_at is not None and not cell.differences for cell in cells)
        return ReconciliationBody(
            survey=survey_id,
            agrees=agrees,
            cells=tuple(CellFindingsBody.of(cell) for cell in cells),
            missing_cells=missing,
        )

    return router
