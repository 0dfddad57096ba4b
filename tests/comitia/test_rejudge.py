"""`comitia rejudge` as compliance uses it: over a real directory, and cut short."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from comitia.cell_access import operator
from comitia.cli import app
from comitia.periods import Period
from comitia.rejudge import CursorFile
from comitia.stack.state import StackState
from domain.certificates import instant
from domain.contracts.login import RecordLoginInput
from domain.contracts.rejudging import RejudgedPart
from domain.login_risk import CURRENT_LOGIN_POLICY, judge_login
from domain.rejudging import part_of
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY
from tests.conftest import OwnerPool, SettingsFor
from tests.domain.test_rejudging import decisions
from tests.integrations.postgres.test_logins import login

STRICT = {"version": 2, "challenge_from_permille": 0}


def judged_login() -> RecordLoginInput:
    made = login()
    return made.model_copy(update={"verdict": judge_login(made.signals, CURRENT_LOGIN_POLICY)})


@dataclass
class Directory:
    """Three logins of one hour, long ago, the last of which has another score than its policy gives."""

    data: Path
    attempts: list[str]
    period: list[str]


@pytest_asyncio.fixture
async def directory(
    servers: StackState, settings_for: SettingsFor, owner_pool: OwnerPool, tmp_path: Path
) -> AsyncIterator[Directory]:
    servers.model_copy(update={"folder": tmp_path, "supervisor_pid": 1}).write()
    settings = settings_for(IDENTITY)
    pool = await open_pool(settings.cells["eu"].database, settings, IDENTITY, size=1)
    made, since = [judged_login(), judged_login(), login()], datetime.now(UTC) - timedelta(days=300)
    since = since.replace(microsecond=secrets.randbelow(10**6)) - timedelta(minutes=secrets.randbelow(10**5))
    for number, each in enumerate(made):
        await PostgresLogins(pool).record(each)
        await (await owner_pool("eu")).execute(
            "UPDATE identity.login_attempt SET at = $2 WHERE attempt_id = $1",
            each.request.attempt_id,
            since + timedelta(milliseconds=number),
        )
    period = ["--from", since.isoformat(), "--to", (since + timedelta(milliseconds=3)).isoformat(), "--cell", "eu"]
    try:
        yield Directory(tmp_path, [each.request.attempt_id for each in made], period)
    finally:
        await pool.close()


async def rejudged(data: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["rejudge", *arguments, "--data", str(data)])
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


async def test_what_would_change_is_listed_and_counted_and_what_is_kept_stays(
    directory: Directory, owner_pool: OwnerPool
) -> None:
    first, second, broken = directory.attempts
    select = "SELECT * FROM identity.login_attempt WHERE attempt_id = ANY ($1) ORDER BY attempt_id"
    before = await (await owner_pool("eu")).fetch(select, directory.attempts)
    policy = directory.data / "strict.json"
    policy.write_text(json.dumps(STRICT))
    code, lines, said = await rejudged(directory.data, "--process", "login", "--policy", str(policy), *directory.period)
    assert code == 1
    assert {line["subject"]: line["verdict"] for line in lines} == {
        first: "different",
        second: "different",
        broken: "cannot",
    }
    (changed,) = [line for line in lines if line["subject"] == first]
    assert (changed["cell"], changed["before"]["decision"], changed["after"]["decision"]) == (
        "eu",
        "ALLOW",
        "CHALLENGE",
    )
    assert [line["why"] for line in lines if line["subject"] == broken] == ["not_reproduced"]
    assert said.splitlines() == ["2 different, 1 cannot", "  ALLOW > CHALLENGE: 2"]
    assert await (await owner_pool("eu")).fetch(select, directory.attempts) == before


async def test_whoever_gives_the_command_is_written_down(directory: Directory, owner_pool: OwnerPool) -> None:
    pool, asked = await owner_pool("eu"), ["--process", "login", "--policy", "1", *directory.period]
    noted = "SELECT body FROM audit.entry WHERE kind = 'decisions.rejudged' AND body->'facts'->>'from' = $1"
    began = instant(datetime.fromisoformat(directory.period[1]))
    for count in (1, 2):
        await rejudged(directory.data, *asked)
        told = [json.loads(row["body"]) for row in await pool.fetch(noted, began)]
        assert len(told) == count
    assert {(each["actor"], each["outcome"], each["facts"]["process"]) for each in told} == {
        (operator(), "asked", "login")
    }
    assert {each["facts"]["policy"] for each in told} == {sha256(b'{"version": 1}').hexdigest()}


async def test_what_is_done_is_not_done_again_and_another_question_needs_another_file(directory: Directory) -> None:
    cursor = directory.data / "cursor"
    asked = ["--process", "login", *directory.period, "--cursor", str(cursor)]
    code, lines, said = await rejudged(directory.data, "--policy", "1", *asked)
    assert (code, [line["verdict"] for line in lines]) == (1, ["cannot"])
    assert said.strip() == "2 same, 1 cannot"
    assert await rejudged(directory.data, "--policy", "1", *asked) == (1, [], said)
    policy = directory.data / "strict.json"
    policy.write_text(json.dumps(STRICT))
    code, lines, said = await rejudged(directory.data, "--policy", str(policy), *asked)
    assert (code, lines) == (1, [])
    assert "another question" in said


@pytest.mark.parametrize("archived", [False, True])
async def test_a_period_without_decisions_is_not_the_same(directory: Directory, *, archived: bool) -> None:
    policy = directory.data / "policy.json"
    policy.write_text('{"version": 2, "minimum_age": 18}')
    period = ["--from", "2001-01-01T00:00:00+00:00", "--to", "2001-01-02T00:00:00+00:00"]
    more = ["--from-archive"] if archived else []
    code, lines, said = await rejudged(directory.data, "--process", "identity", "--policy", str(policy), *period, *more)
    assert (code, lines, said.strip()) == (1, [], "no decision of this period")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--process", "login", "--policy", "1"], 2),
        (["--process", "votes", "--policy", "1", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"], 2),
        (["--process", "login", "--policy", "1", "--from", "2026-01-01", "--to", "2026-01-02"], 2),
        (["--process", "login", "--policy", "7", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"], 1),
        (["--process", "login", "--policy", "x", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"], 1),
        (
            [
                *("--process", "login", "--policy", "1", "--from-archive"),
                *("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"),
            ],
            2,
        ),
        (
            [
                *("--process", "login", "--policy", "1", "--cell", "mars"),
                *("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"),
            ],
            1,
        ),
    ],
)
async def test_what_names_no_decisions_or_no_policy_is_refused(
    servers: StackState, tmp_path: Path, arguments: list[str], code: int
) -> None:
    servers.model_copy(update={"folder": tmp_path, "supervisor_pid": 1}).write()
    assert (await rejudged(tmp_path, *arguments))[:2] == (code, [])


def test_a_cursor_is_there_whole_and_counts_every_stretch_once(tmp_path: Path) -> None:
    since = datetime(2026, 5, 7, tzinfo=UTC)
    period, asked, path = Period(since, since + timedelta(hours=2)), {"process": "login"}, tmp_path / "cursor"
    kept = CursorFile(path, asked)
    assert kept.part("eu", period) == RejudgedPart(until=since, counts=kept.counts)
    half = part_of(since + timedelta(hours=1), decisions(80))
    kept.keep("eu", half)
    kept.keep("us", part_of(since + timedelta(hours=2), decisions(20)))
    again = CursorFile(path, asked)
    assert again.part("eu", period) == half
    assert again.counts == kept.counts
    counts = again.counts
    assert counts.same + counts.different + counts.cannot == 100
    assert [file.name for file in tmp_path.iterdir()] == ["cursor"]
    with pytest.raises(ValueError, match="another question"):
        CursorFile(path, {"process": "identity"})
