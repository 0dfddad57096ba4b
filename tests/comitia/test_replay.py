"""`comitia replay` as compliance uses it."""

import asyncio
import json
import secrets
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from typer.testing import CliRunner

from activities.voting import VotingActivities
from comitia.cell_access import operator
from comitia.cli import app
from comitia.replay import DoneFile
from comitia.stack.state import StackState
from domain.contracts.voting import RecordedVotes, SealedVote, SubmitVotesInput
from domain.ids import BatchId, cell_of_workflow, submit_votes_workflow_id
from domain.replay import Execution, ReplayVerdict, Verdict
from integrations.keys.file_kms import FileKms
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.replaying import Replays
from tests.conftest import OwnerPool
from tests.upgrade.release import ARCHIVE
from tests.vote_workers import vote_worker
from workflows.submit_votes import SubmitVotesWorkflow


class Ledger:
    def __init__(self) -> None:
        self.calls = 0

    async def record(self, batch: SubmitVotesInput, accepted_at: datetime) -> RecordedVotes:
        self.calls += 1
        return RecordedVotes(outcomes=bytes(len(batch.votes)))

    async def publish(self, _summaries: Any) -> None:
        raise AssertionError


@pytest.fixture
def data(servers: StackState, tmp_path: Path) -> Path:
    """The folder of a stack: these servers, keys of its own."""
    servers.model_copy(update={"folder": tmp_path, "supervisor_pid": 1}).write()
    return tmp_path


@asynccontextmanager
async def voting(data: Path, servers: StackState, ledger: Ledger) -> AsyncIterator[tuple[Client, str]]:
    codec = EncryptionCodec(FileKms(data / "keys", frozenset({"in-flight"})), "in-flight/eu")
    client = await connect(servers.settings_for().cells["eu"].temporal, codec)
    async with vote_worker(client, VotingActivities(ledger, ledger)) as queue:
        yield client, queue


async def submit(client: Client, queue: str) -> WorkflowHandle[Any, Any]:
    vote = SealedVote(
        survey_id="s", nullifier=secrets.token_bytes(32), evidence=bytes(64), region="r", sealed_answers=b"a choice"
    )
    batch = SubmitVotesInput(cell="eu", gateway_id=secrets.token_bytes(16), number=1, votes=(vote,))
    return await client.start_workflow(
        SubmitVotesWorkflow.run,
        batch,
        id=submit_votes_workflow_id("eu", BatchId(batch.gateway_id, 1)),
        task_queue=queue,
    )


async def replayed(data: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["replay", *arguments, "--data", str(data)])
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


async def test_one_execution_and_then_a_period_are_replayed_and_nothing_is_recorded_again(
    data: Path, servers: StackState
) -> None:
    ledger, began = Ledger(), datetime.now(UTC)
    async with voting(data, servers, ledger) as (client, queue):
        handles = [await submit(client, queue) for _ in range(3)]
        for handle in handles:
            await handle.result()
        ended = datetime.now(UTC) + timedelta(seconds=1)

        code, (line,), _ = await replayed(data, handles[0].id)
        assert (code, line["verdict"], line["type"], line["workflowId"]) == (0, "same", "SubmitVotes", handles[0].id)

        kept = data / "done"
        period = ["--from", began.isoformat(), "--to", ended.isoformat(), "--type", "SubmitVotes", "--cell", "eu"]
        async with asyncio.timeout(60):  # visibility follows
            while await count(client, began, ended) < 3:
                await asyncio.sleep(0.1)
        code, lines, said = await replayed(data, *period, "--done", str(kept))
        found = {line["workflowId"]: line["verdict"] for line in lines}
        assert {handle.id for handle in handles} <= found.keys()
        assert {found[handle.id] for handle in handles} == {"same"}
        assert [json.loads(line) for line in kept.read_text().splitlines()] == lines
        assert (code, said.strip()) == (0, "3 same")

        # One line is cut short, as by a kill: that one is replayed again, and no other
        kept.write_text(kept.read_text()[:-5])
        _, again, _ = await replayed(data, *period, "--done", str(kept))
        assert [line["workflowId"] for line in again] == [lines[-1]["workflowId"]]
        assert [json.loads(line) for line in kept.read_text().splitlines()] == lines
    assert ledger.calls == 3
    assert {cell_of_workflow(handle.id) for handle in handles} == {"eu"}


async def count(client: Client, began: datetime, ended: datetime) -> int:
    query = f"StartTime >= '{began.isoformat()}' AND StartTime < '{ended.isoformat()}' AND WorkflowType = 'SubmitVotes'"
    return (await client.count_workflows(query)).count


async def test_whoever_gives_the_command_is_written_down_whatever_it_finds(data: Path, owner_pool: OwnerPool) -> None:
    pool, never = await owner_pool("eu"), submit_votes_workflow_id("eu", BatchId(secrets.token_bytes(16), 1))
    for code in ("this", "recorded"):
        assert (await replayed(data, never, "--code", code))[0] == 1
    of_platform = f"run-survey/s_{secrets.token_hex(8)}"  # which belongs to no cell
    assert (await replayed(data, of_platform))[0] == 1
    for workflow, codes in ((never, ["this", "recorded"]), (of_platform, ["this"])):
        rows = await pool.fetch(
            "SELECT body FROM audit.entry WHERE kind = 'executions.replayed' AND body->'facts'->>'workflow' = $1"
            " ORDER BY xid",
            workflow,
        )
        told = [json.loads(row["body"]) for row in rows]
        assert [each["facts"]["code"] for each in told] == codes
        assert {(each["actor"], each["outcome"]) for each in told} == {(operator(), "asked")}


async def test_what_was_never_there_and_what_has_lost_its_key_cannot_be_replayed(
    data: Path, servers: StackState
) -> None:
    never = submit_votes_workflow_id("eu", BatchId(bytes(16), 1))
    code, (line,), said = await replayed(data, never)
    assert (code, line["verdict"], line["why"]) == (1, "cannot", "history_gone")
    assert "1 cannot" in said
    async with voting(data, servers, Ledger()) as (client, queue):
        handle = await submit(client, queue)
        await handle.result()
    keys = FileKms(data / "keys", frozenset({"manage:in-flight"}))
    for key_id in await keys.key_ids("in-flight/eu"):
        await keys.destroy(key_id)
    code, (line,), _ = await replayed(data, handle.id)
    assert (code, line["verdict"], line["why"]) == (1, "cannot", "key_destroyed")


async def test_an_execution_is_replayed_with_the_code_of_another_release_and_with_the_recorded_one(
    data: Path, servers: StackState, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with voting(data, servers, Ledger()) as (client, queue):
        handle = await submit(client, queue)
        await handle.result()
    stored = tmp_path_factory.mktemp("releases")
    code, (line,), _ = await replayed(data, handle.id, "--code", str(ARCHIVE))
    assert (code, line["verdict"]) == (0, "same")
    with tarfile.open(ARCHIVE) as archive:
        assert line["code"] == archive.pax_headers["comment"]

    recorded = ("--code", "recorded", "--releases", str(stored))
    code, (line,), said = await replayed(data, handle.id, *recorded)
    assert (code, line["verdict"], line["why"]) == (1, "cannot", "release_not_at_hand")
    with tarfile.open(ARCHIVE) as archive:  # that build is at hand from now on
        archive.extractall(stored / line["code"], filter="data")
    code, (again,), _ = await replayed(data, handle.id, *recorded)
    assert (code, again["verdict"], again["code"]) == (0, "same", line["code"])
    (data / "releases").symlink_to(stored)  # where a stack has them
    code, (again,), _ = await replayed(data, handle.id, "--code", "recorded")
    assert (code, again["verdict"], again["code"]) == (0, "same", line["code"])
    code, (this,), _ = await replayed(data, handle.id, "--code", "this")
    assert (code, this["verdict"], "code" in this) == (0, "same", False)

    code, lines, said = await replayed(data, handle.id, "--code", str(stored))
    assert (code, lines, "not the code of a release" in said) == (1, [], True)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["submit-votes/eu/x", "--from", "2026-01-01T00:00:00+00:00"],
        ["--from", "2026-01-01T00:00:00+00:00"],
        ["--from", "2026-01-01T00:00:00", "--to", "2026-01-02T00:00:00+00:00"],
        ["--from", "yesterday", "--to", "2026-01-02T00:00:00+00:00"],
        ["--from", "2026-01-01T00:00:00+00:00", "--to", "2026-01-02T00:00:00+00:00", "--type", "x' OR 'a'='a"],
    ],
)
async def test_what_names_no_execution_and_no_period_is_refused(data: Path, arguments: list[str]) -> None:
    code, lines, _ = await replayed(data, *arguments)
    assert (code, lines) == (2, [])


async def test_a_period_without_executions_is_not_the_same(data: Path) -> None:
    code, lines, said = await replayed(data, "--from", "2001-01-01T00:00:00+00:00", "--to", "2001-01-02T00:00:00+00:00")
    assert (code, lines) == (1, [])
    assert "no execution of this period" in said


def test_the_verdicts_of_other_code_and_of_what_is_open_are_not_done(tmp_path: Path) -> None:
    path = tmp_path / "done"
    path.write_text('{"workflowId":"w0","runId":"r","type":"T","verdict":"same"}\n')  # by an earlier release
    then = DoneFile(path, "then")
    then.keep(ReplayVerdict("w1", "r", "T", Verdict.SAME))
    then.keep(ReplayVerdict("w2", "r", "T", Verdict.DIFFERENT))
    now = DoneFile(path, "now")
    assert now.counts == {}
    assert not any(now.has(Execution(f"w{number}", "r", "T")) for number in range(3))
    now.keep(ReplayVerdict("w1", "r", "T", Verdict.SAME))
    now.keep(ReplayVerdict("w3", "r", "T", Verdict.SAME, is_closed=False))
    assert now.counts == {"same": 2}
    again = DoneFile(path, "now")
    assert [again.has(Execution(f"w{number}", "r", "T")) for number in range(4)] == [False, True, False, False]
    assert DoneFile(path, "then").counts == {"same": 1, "different": 1}


async def test_a_verdict_tells_whether_its_execution_was_closed() -> None:
    stored = Path(__file__).parents[1] / "replay" / "histories" / "submit-votes-broker-away.json"
    whole = WorkflowHistory.from_json("w", stored.read_text())
    part = WorkflowHistory("w", whole.events[:-1])
    closed, still_open = await Replays([SubmitVotesWorkflow]).judge([whole, part])
    assert (closed.verdict, closed.is_closed) == (Verdict.SAME, True)
    assert still_open.is_closed is False
