"""What counts as late, and in which order it is told; what Temporal and a database say of it is made up here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from api.support.bodies import StuckPage
from api.support.cells import SupportCell
from api.support.stuck import StuckDesk
from api.support.waiting import SEARCHES, Waiting, WaitingStage
from domain.case_targets import OPENING, Target
from domain.cases import Case, CaseKind, PendingActivity, Standing
from domain.ids import new_registration_id, verify_identity_workflow_id

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
REVIEW, PROOFING = Target("VerifyIdentity", 2 * HOUR, "review"), Target("VerifyIdentity", 9 * HOUR, "proofing")


@dataclass
class Cell:
    """A cell with what its readers say; each process began a month ago."""

    rows: dict[str, Case] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    name: str = "eu"

    @property
    def standings(self) -> "Cell":
        return self

    @property
    def cases(self) -> "Cell":
        return self

    def at(self, stage: str, hours: float) -> str:
        case_id = new_registration_id("eu")
        changed = NOW - hours * HOUR
        self.rows[case_id] = Case(CaseKind.REGISTRATION, case_id, "v", stage, NOW - timedelta(days=30), changed)
        return case_id

    async def every_open_since(self, *_asked: Any) -> tuple[Mapping[str, datetime], bool]:
        began = NOW - timedelta(days=30)
        return {verify_identity_workflow_id("eu", case_id, 1): began for case_id in self.rows}, False

    async def every_failing(self, _most: int) -> tuple[Sequence[str], bool]:
        return [verify_identity_workflow_id("eu", case_id, 1) for case_id in self.failing], False

    async def registrations(self, case_ids: Collection[str]) -> Sequence[Case]:
        return [self.rows[case_id] for case_id in case_ids]

    async def of_all(self, workflow_ids: Sequence[str]) -> list[Standing]:
        failing = PendingActivity("workflow_task", 7, NOW, "non_deterministic_error", failing_since=NOW - HOUR)
        return [
            Standing(
                each,
                "VerifyIdentity",
                "running",
                NOW,
                NOW if each.split("/")[2] in self.ended else None,
                pending=(failing,) if each.split("/")[2] in self.failing else (),
            )
            for each in workflow_ids
        ]


def desk(cell: Cell, *targets: Target) -> StuckDesk:
    return StuckDesk(["eu"], lambda _: cast("SupportCell", cell), targets)


async def test_a_case_is_late_by_the_time_at_its_stage_and_not_by_its_age() -> None:
    cell = Cell()
    late, _young, elsewhere = cell.at("review", 3), cell.at("review", 1), cell.at("proofing", 3)
    over = cell.at("review", 4)
    cell.ended.add(over)  # since it was listed
    page = StuckPage.of(await desk(cell, REVIEW, PROOFING).look(10))
    assert [each.case_id for each in page.stuck] == [late]
    (stuck,) = page.stuck
    assert (stuck.stage, stuck.since, stuck.target_s) == ("review", cell.rows[late].changed_at, 7200)
    assert elsewhere not in page.model_dump_json()


async def test_those_come_first_that_are_late_for_longest_against_their_own_targets() -> None:
    cell = Cell()
    barely, long = cell.at("proofing", 10), cell.at("review", 5)  # one hour late, and three
    page = await desk(cell, REVIEW, PROOFING).look(10)
    assert [each.case.case_id for each in page.found if each.case is not None] == [long, barely]
    first = await desk(cell, REVIEW, PROOFING).look(1)
    assert ([each.case.case_id for each in first.found if each.case is not None], first.has_more) == ([long], True)


async def test_a_case_that_no_provider_has_taken_up_is_late_by_its_age() -> None:
    cell = Cell()
    case_id = cell.at("proofing", 1)
    late = await desk(cell, Target("VerifyIdentity", 2 * HOUR, OPENING)).look(10)
    (stuck,) = StuckPage.of(late).stuck
    assert (stuck.case_id, stuck.stage, stuck.since) == (case_id, "opening", NOW - timedelta(days=30))
    assert Waiting(WaitingStage.PROOFING).noted == ("proofing", "")
    assert (Waiting(WaitingStage.REVIEW).noted, Waiting().noted) == (("review",), ())


async def test_a_registration_that_is_over_is_late_by_its_end_while_something_is_still_to_be_done() -> None:
    cell = Cell()
    late, _young = cell.at("cancelled", 3), cell.at("cancelled", 1)
    page = StuckPage.of(await desk(cell, Target("RegisterVoter", 2 * HOUR, "cancelled")).look(10))
    assert [(each.case_id, each.stage) for each in page.stuck] == [(late, "cancelled")]


async def test_what_fails_in_its_own_code_is_late_once_whatever_it_waits_for() -> None:
    cell = Cell()
    young, late = cell.at("review", 1), cell.at("review", 3)
    cell.failing |= {young, late}
    page = StuckPage.of(await desk(cell, REVIEW).look(10))
    assert {each.case_id for each in page.stuck} == cell.failing
    for stuck in page.stuck:
        assert (stuck.stage, stuck.since, stuck.target_s) == ("workflow_task", NOW - HOUR, 0)
        assert [pending.code for pending in stuck.pending] == ["non_deterministic_error"]


def test_a_registration_waits_by_the_time_at_its_stage_and_any_other_case_by_its_age() -> None:
    cell = Cell()
    case = cell.rows[cell.at("review", 1)]
    at_review = Waiting(WaitingStage.REVIEW)
    assert at_review.takes(case, NOW - HOUR / 2)
    assert not at_review.takes(case, NOW - 2 * HOUR)
    assert not Waiting(WaitingStage.RETRY).takes(case, NOW)
    assert not Waiting(WaitingStage.STOPPED).takes(replace(case, stage="requested"), NOW)
    stopped = replace(case, kind=CaseKind.DELETION, stage="stopped")
    assert Waiting(WaitingStage.STOPPED).takes(stopped, NOW)
    assert Waiting(WaitingStage.STOPPED).processes == ("DeleteAccount",)
    assert set(SEARCHES) == set(WaitingStage)
    assert Waiting().takes(case, NOW - timedelta(days=20))
    assert not Waiting().takes(case, NOW - timedelta(days=40))
