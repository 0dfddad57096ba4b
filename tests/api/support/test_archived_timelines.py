"""Support's timeline goes on out of the archive: the same steps, masked alike, and what is missing is said."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadCodec

from api.support.cells import SupportCell
from api.support.desk import CaseDesk
from domain.archive_ports import HistoryPlace
from domain.audit_ports import LockedObjects
from domain.cases import CaseKind, Standing, Step, StepKind, Timeline
from domain.errors import DomainError, ErrorCode
from domain.ids import new_recovery_id, register_voter_workflow_id, verify_identity_workflow_id
from domain.replay import Execution
from domain.tokens import Role
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.roles import AUDIT
from integrations.temporal.archived_histories import ArchivedHistories
from integrations.temporal.histories import Histories
from integrations.temporal.runs import Runs
from integrations.temporal.standings import Standings
from integrations.temporal.timelines import Timelines
from tests.answers import code_of
from tests.api.auth.registration_town import Town, number
from tests.api.support.staff_desk import ANN, StaffDesk, staff_desk
from tests.archive_world import archive_closed
from tests.conftest import OwnerPool, SettingsFor
from workflows.signatures import all_signatures

CELL = "eu"
DOCUMENT = number()
MAIL = f"archived.{secrets.token_hex(4)}@example.org"


class Dropped(Histories):
    """A server that has dropped these workflows, for which a real one takes a minute."""

    def __init__(self, town: Town, *workflow_ids: str) -> None:
        cell = town.cells[CELL]
        super().__init__(cell.temporal, cell.codec)
        self._dropped = workflow_ids

    async def read(self, workflow_id: str, run_id: str = "") -> WorkflowHistory | None:
        return None if workflow_id in self._dropped else await super().read(workflow_id, run_id)


class Away:
    """A store that does not answer."""

    def read(self, _name: str) -> AsyncIterator[bytes]:
        raise DomainError(ErrorCode.OBJECTS_UNAVAILABLE, "away")


class Destroyed:
    """A codec whose keys are gone."""

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise DomainError(ErrorCode.KEY_DESTROYED)


@dataclass
class Archived:
    """A registration that is over and archived, and whoever reads it where the server has dropped what is named."""

    town: Town
    owner: Any
    case_id: str
    file: Path
    folder: Path

    @property
    def workflows(self) -> tuple[str, str]:
        return register_voter_workflow_id(CELL, self.case_id), verify_identity_workflow_id(CELL, self.case_id, 1)

    @asynccontextmanager
    async def desk(
        self, *dropped: str, objects: Any = None, codec: Any = None, has_archive: bool = True, places: Any = None
    ) -> AsyncIterator[StaffDesk]:
        cell, index = self.town.cells[CELL], places or PostgresArchive(self.town.cells[CELL].pool)
        store = cast("LockedObjects", objects or FileObjectStore(self.folder))
        archive = ArchivedHistories(index, store, cast("PayloadCodec", codec or cell.codec)) if has_archive else None
        standings = Standings(cell.temporal)
        runs = Runs(cell.temporal, index)
        timelines = Timelines(Dropped(self.town, *dropped), runs, standings, all_signatures(), archive)
        async with staff_desk(self.town, self.owner, timelines=timelines) as desk:
            yield desk

    async def timeline(self, *dropped: str, role: Role = Role.SUPPORT, **parts: Any) -> dict[str, Any]:
        async with self.desk(*dropped, **parts) as desk:
            answer = await desk.get(f"cases/{self.case_id}/timeline", ANN, role)
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def archived(
    town: Town, settings_for: SettingsFor, owner_pool: OwnerPool, tmp_path_factory: pytest.TempPathFactory
) -> Archived:
    case_id: str = (await town.begin(CELL, mail=MAIL)).json()["registrationId"]
    await town.prove(case_id, MAIL)
    await town.at_provider(case_id)
    await town.show(case_id, DOCUMENT)
    await town.at(case_id, "active")
    folder, client = tmp_path_factory.mktemp("objects"), town.cells[CELL].temporal
    found = Archived(town, await owner_pool(CELL), case_id, folder, folder)
    executions = []
    for workflow in found.workflows:
        handle = client.get_workflow_handle(workflow)
        await handle.result()
        described = await handle.describe()
        executions.append(Execution(workflow, described.run_id, described.workflow_type))
    found.file = await archive_closed(settings_for(AUDIT), client, CELL, folder, executions)
    return found


def told(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in step.items() if name != "source"} for step in found["steps"]]


def sources(found: dict[str, Any]) -> dict[str, set[str]]:
    return {
        process: {step["source"] for step in found["steps"] if step["process"] == process}
        for process in ("RegisterVoter", "VerifyIdentity")
    }


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.COMPLIANCE])
async def test_what_the_server_has_dropped_is_read_as_if_it_had_not(archived: Archived, role: Role) -> None:
    before = await archived.timeline(role=role)
    after = await archived.timeline(*archived.workflows, role=role)
    assert sources(before) == {"RegisterVoter": {"server"}, "VerifyIdentity": {"server"}}
    assert sources(after) == {"RegisterVoter": {"archive"}, "VerifyIdentity": {"archive"}}
    assert told(after) == told(before)
    assert (before["gaps"], after["gaps"]) == ({}, {})
    assert any("***" in str(step) for step in after["steps"]) is (role is Role.SUPPORT)
    for secret in (MAIL, DOCUMENT):
        assert secret not in str(after)


async def test_of_what_one_process_started_the_rest_is_archived(archived: Archived) -> None:
    whole, (_, child) = await archived.timeline(), archived.workflows
    mixed = await archived.timeline(child)
    assert sources(mixed) == {"RegisterVoter": {"server"}, "VerifyIdentity": {"archive"}}
    assert told(mixed) == told(whole)


async def test_only_who_may_see_cases_sees_them_in_the_archive(archived: Archived) -> None:
    async with archived.desk(*archived.workflows) as desk:
        for role in (Role.ADMIN, Role.AUDITOR):
            assert code_of(await desk.get(f"cases/{archived.case_id}/timeline", ANN, role)) == (403, "forbidden")


async def test_a_service_that_reads_no_archive_says_that_there_is_more(archived: Archived) -> None:
    parent, child = archived.workflows
    nothing = await archived.timeline(parent, child, has_archive=False)
    assert (nothing["steps"], nothing["gaps"]) == ([], {parent: "not_read_here"})
    half = await archived.timeline(child, has_archive=False)
    assert sources(half) == {"RegisterVoter": {"server"}, "VerifyIdentity": set()}
    assert half["gaps"] == {child: "not_read_here"}


async def test_a_store_that_is_away_or_was_changed_costs_what_is_there_and_no_more(archived: Archived) -> None:
    _, child = archived.workflows
    away = await archived.timeline(child, objects=Away())
    assert (sources(away)["RegisterVoter"], away["gaps"]) == ({"server"}, {child: "objects_unavailable"})
    whole = archived.file.read_bytes()
    archived.file.write_bytes(whole.replace(b"encryption-key-id", b"encryption-key-ix"))
    try:
        changed = await archived.timeline(*archived.workflows)
    finally:
        archived.file.write_bytes(whole)
    assert (changed["steps"], changed["gaps"]) == ([], {archived.workflows[0]: "archive_contradicted"})


async def test_with_the_key_names_and_instants_are_left(archived: Archived) -> None:
    whole = await archived.timeline()
    left = await archived.timeline(*archived.workflows, codec=Destroyed())
    assert left["gaps"] == dict.fromkeys(archived.workflows, "key_destroyed")
    assert [step["at"] for step in left["steps"]] == [step["at"] for step in whole["steps"]]
    assert not any("given" in step or "came" in step for step in left["steps"])


class LeftOut:
    """An archive that left out whatever there is, as it does with every batch of votes, but for what it keeps."""

    def __init__(self, town: Town, *kept: str) -> None:
        self._kept, self._index = kept, PostgresArchive(town.cells[CELL].pool)

    async def runs(self, workflow_id: str) -> list[tuple[HistoryPlace, datetime]]:
        found = await self._index.runs(workflow_id)
        if workflow_id in self._kept:
            return found
        return [(replace(place, left_out="readable_payload"), started) for place, started in found]


async def test_what_was_left_out_of_the_archive_is_gone(archived: Archived) -> None:
    async with archived.desk(*archived.workflows, places=LeftOut(archived.town)) as desk:
        answer = await desk.get(f"cases/{archived.case_id}/timeline", ANN)
        assert code_of(answer) == (404, "case_not_found")


async def test_of_a_process_that_is_gone_it_is_said(archived: Archived) -> None:
    parent, child = archived.workflows
    left = await archived.timeline(child, places=LeftOut(archived.town))
    assert sources(left) == {"RegisterVoter": {"server"}, "VerifyIdentity": set()}
    assert left["gaps"] == {child: "history_gone"}
    left = await archived.timeline(parent, child, places=LeftOut(archived.town, parent))
    assert sources(left) == {"RegisterVoter": {"archive"}, "VerifyIdentity": set()}
    assert left["gaps"] == {child: "history_gone"}


class Nothing:
    """A directory, and a server, that know nothing of a case."""

    async def at(self, _address: Any) -> None:
        return None

    async def of(self, _workflow_id: str) -> Standing | None:
        return None

    async def of_all(self, _workflow_ids: Any) -> list[Standing]:
        return []

    async def processes_of(self, _address: Any) -> dict[str, bool]:
        return {}


class Kept:
    """What is left of it in the archive."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps

    async def of(self, _workflow_id: str, _beside: Any = None) -> Timeline | None:
        return Timeline(self._steps) if self._steps else None


async def test_a_case_of_nobody_is_found_by_what_is_archived_of_it() -> None:
    began, case_id = datetime(2026, 1, 2, tzinfo=UTC), new_recovery_id(CELL)
    ended = began + timedelta(minutes=15)
    steps = (
        Step(began, StepKind.BEGAN, "RecoverAccount", "RecoverAccount", "began"),
        Step(ended, StepKind.ENDED, "RecoverAccount", "RecoverAccount", "completed"),
    )

    def desk(*kept: Step) -> CaseDesk:
        parts = SimpleNamespace(cases=Nothing(), standings=Nothing(), timelines=Kept(*kept))
        return CaseDesk([CELL], lambda _: cast("SupportCell", parts), cast("Any", None))

    case = (await desk(*steps).open(case_id)).case
    assert (case.kind, case.voter_id, case.stage) == (CaseKind.RECOVERY, "", "completed")
    assert (case.began_at, case.changed_at) == (began, ended)
    for kept in ((), steps[:1]):
        with pytest.raises(DomainError) as refused:
            await desk(*kept).open(case_id)
        assert refused.value.code is ErrorCode.CASE_NOT_FOUND
