"""Executions are replayed with the code that their histories name, as far as that is at hand and loads."""

import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHistory

from domain.replay import RELEASE_UNUSABLE, Execution, ReplayVerdict, Verdict
from integrations.temporal.replay_code import RecordedCode
from integrations.temporal.replay_pool import PAGE, ReplayPool
from integrations.temporal.replay_releases import StoredReleases
from tests.upgrade.release import ARCHIVE
from workflows.registry import WORKFLOWS

ROOT = Path(__file__).parents[3]
HISTORIES = ROOT / "tests" / "replay" / "histories"


class Stored:
    """One history, again and again, that names the build that is its run; it was left out where its id says so."""

    async def read(self, workflow_id: str, run: str = "") -> WorkflowHistory | None:
        history = WorkflowHistory.from_json(workflow_id, (HISTORIES / "submit-votes-recorded.json").read_text())
        for event in history.events:
            if event.HasField("workflow_task_completed_event_attributes"):
                told = event.workflow_task_completed_event_attributes
                told.deployment_version.build_id = told.worker_version.build_id = run
        return None if workflow_id == "gone" else history


async def judged(code: RecordedCode, builds: Sequence[str]) -> list[ReplayVerdict]:
    async def executions() -> AsyncIterator[Execution]:
        for number, build in enumerate(builds):
            yield Execution(f"w{number}" if build else "gone", build, "SubmitVotes")

    return [verdict async for verdict in code.over(Stored(), executions())]


async def test_the_recorded_code_replays_on_every_process_and_forgets_nobody(tmp_path: Path) -> None:
    builds = ["", *["own"] * (10 * PAGE)]
    with closing(RecordedCode(StoredReleases("own", tmp_path), WORKFLOWS, 2)) as code:
        found = await judged(code, builds)
        assert len(code.pools["own"].pids) == 2
    names = ["gone", *(f"w{number}" for number in range(1, len(builds)))]
    assert sorted(verdict.workflow_id for verdict in found) == sorted(names)
    assert {(verdict.verdict, verdict.code) for verdict in found} == {(Verdict.SAME, "own"), (Verdict.CANNOT, "")}


async def test_only_some_releases_are_in_memory_at_once(tmp_path: Path) -> None:
    builds = [f"b{number}" for number in range(6)]
    for build in builds:
        (tmp_path / build).symlink_to(ROOT)
    with closing(RecordedCode(StoredReleases("own", tmp_path, tmp_path), WORKFLOWS, 1)) as code:
        found = await judged(code, [*builds, "b5", "own"])
        assert list(code.pools) == ["b3", "b4", "b5", "own"]
        assert [verdict.verdict for verdict in await judged(code, ["b4", "b0"])] == [Verdict.SAME] * 2
        assert list(code.pools) == ["b5", "own", "b4", "b0"]
    assert sorted((verdict.workflow_id, verdict.verdict, verdict.code) for verdict in found) == [
        (f"w{number}", Verdict.SAME, build) for number, build in enumerate([*builds, "b5", "own"])
    ]
    assert code.pools == {}


async def test_a_release_that_is_stored_later_is_found_and_one_that_does_not_load_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken-1.tar").write_bytes(b"no archive")
    (tmp_path / "cut-1.tar.xz").write_bytes(ARCHIVE.read_bytes()[:10_000] + bytes(10_000))
    (tmp_path / "empty-1").mkdir()
    (tmp_path / "torn-1" / "workflows").mkdir(parents=True)
    (tmp_path / "torn-1" / "workflows" / "registry.py").write_text("from workflows.gone import GoneWorkflow\n")
    with closing(RecordedCode(StoredReleases("own", tmp_path, tmp_path), WORKFLOWS, 1)) as code:
        found = await judged(code, ["broken-1", "cut-1", "empty-1", "torn-1", "torn-1", "later-1", "../own"])
        told = dict.fromkeys(("broken-1", "cut-1", "empty-1", "torn-1"), RELEASE_UNUSABLE)
        told |= {"later-1": "release_not_at_hand", "../own": "release_not_at_hand"}
        assert {verdict.code: verdict.why for verdict in found} == told
        assert {(verdict.verdict, verdict.is_closed) for verdict in found} == {(Verdict.CANNOT, True)}
        (tmp_path / "later-1").symlink_to(ROOT)
        (again,) = await judged(code, ["later-1"])
    assert again.verdict is Verdict.SAME


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Another release, as a folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_a_release_that_has_no_such_workflow_cannot_say_anything(release: Path) -> None:
    history = WorkflowHistory.from_json("break-glass/eu/x", (HISTORIES / "break-glass-read.json").read_text())
    page = [("break-glass/eu/x", History(events=history.events).SerializeToString())]
    registry = release / "workflows" / "registry.py"
    known = registry.read_text().splitlines(keepends=True)
    registry.write_text("".join(line for line in known if "BreakGlassWorkflow" not in line))
    with ReplayPool(WORKFLOWS, processes=1, release=release) as pool:
        (verdict,) = pool.submit(page).result(30)
    assert (verdict.verdict, verdict.why) == (Verdict.CANNOT, "workflow_type_unknown")
