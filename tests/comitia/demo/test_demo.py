"""`comitia demo` as a person uses it: another process, its words and its exit status."""

import asyncio
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from comitia.demo.client import HttpClient
from comitia.stack import postgres
from comitia.stack.state import read_state
from comitia.tokens import issue_voters, open_access_tokens
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY
from tests.comitia.stack.processes import family_of, gone
from tests.end_to_end.house import House

ENDED_WITHIN_S = 120
PUBLISHED = re.compile(r"published http\S+/v1/surveys/(s_\w+)")
SEED = "5"


@pytest.fixture
def folder(house: House) -> Iterator[Path]:
    """A folder that looks like that of a running stack: its addresses are those of the tests' house."""
    with tempfile.TemporaryDirectory(prefix="comitia-demo-") as name:
        seen = house.state.model_copy(update={"urls": house.supervisor.urls})
        (Path(name) / "stack.json").write_text(seen.model_dump_json())
        with (Path(name) / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(name)


@contextmanager
def demo(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "comitia.cli", "demo", "--seed", SEED, *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMITIA_")}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def survey_of(process: subprocess.Popen[str]) -> str:
    """Read on until the survey is published; return its id."""
    assert process.stdout is not None
    said = ""
    while line := await asyncio.to_thread(process.stdout.readline):
        said += line
        if found := PUBLISHED.search(line):
            return found[1]
    raise AssertionError(said)


async def rest_of(process: subprocess.Popen[str]) -> str:
    said, _ = await asyncio.to_thread(process.communicate, timeout=ENDED_WITHIN_S)
    return said


async def test_every_total_agrees_with_the_file(folder: Path) -> None:
    with demo("--data", str(folder), "--votes", "300", "--clients", "32") as process:
        said = await rest_of(process)
    assert process.returncode == 0, said
    assert "results, last event and ledgers agree with the file to the vote" in said
    assert "difference:" not in said
    for shown in ("/docs", "confirmed 300 of 300", "seen live 300"):
        assert shown in said
    total = next(line for line in said.splitlines() if line.strip().startswith("total"))
    sent, unanswered, put_off, accepted, confirmed, again, refused, counted = map(
        int, total.replace(",", "").split()[1:]
    )
    assert (accepted, confirmed, counted) == (300, 300, 300)
    assert sent == unanswered + put_off + confirmed + again + refused
    assert min(unanswered, again, refused) > 0


@pytest_asyncio.fixture
async def voting(house: House) -> AsyncIterator[tuple[HttpClient, HttpClient]]:
    clients = HttpClient(house.supervisor.url("eligibility")), HttpClient(house.supervisor.url("votes"))
    yield clients
    for client in clients:
        client.close()


async def test_a_vote_behind_its_back_is_a_difference_by_name(
    folder: Path, house: House, voting: tuple[HttpClient, HttpClient]
) -> None:
    settings = house.state.settings_for(IDENTITY)
    tokens = await open_access_tokens(settings)
    pool = await open_pool(settings.cells["us"].database, settings, IDENTITY, size=1)
    strangers = [issued async for issued in issue_voters(pool, tokens, "us", "ward-9", 1)]
    await pool.close()
    eligibility, votes = voting
    # One at a time, so that there is time for one more
    with demo("--data", str(folder), "--votes", "60", "--clients", "1") as process:
        survey = await survey_of(process)
        admitted = await eligibility.request("POST", f"/v1/surveys/{survey}/voting-token", token=strangers[0].token)
        ballot = {"answers": [{"question": "1", "options": ["3"]}]}
        cast = await votes.request(
            "POST", f"/v1/surveys/{survey}/vote", token=admitted.json()["votingToken"], body=ballot
        )
        assert cast.status == 201, cast.body
        said = await rest_of(process)
    assert process.returncode == 1, said
    assert re.search(r"difference: cell us, counted: (\d+) where \d+ were expected", said), said
    assert "difference: results, ballots: 61 where 60 were expected" in said
    assert re.search(r"difference: results, ward-9, ballots: \d+ where \d+ were expected", said)
    assert "difference: last event of the stream, ballots: 61 where 60 were expected" in said
    assert "cell eu" not in said.partition("difference:")[2]


async def test_a_platform_that_does_not_answer_is_no_success(folder: Path, house: House) -> None:
    nobody = dict.fromkeys(("api-surveys", "api-eligibility", "api-votes", "api-results"), "http://127.0.0.1:9")
    seen = house.state.model_copy(update={"urls": nobody})
    (folder / "stack.json").write_text(seen.model_dump_json())
    with demo("--data", str(folder), "--votes", "5") as process:
        said = await rest_of(process)
    assert process.returncode == 1
    assert "not finished:" in said


async def test_ctrl_c_ends_it_and_leaves_a_stack_that_ran_before(folder: Path, house: House) -> None:
    pids = house.supervisor.pids
    with demo("--data", str(folder), "--votes", "150", "--clients", "1") as process:
        await survey_of(process)
        family = family_of(process.pid)
        process.send_signal(signal.SIGINT)
        said = await rest_of(process)
        assert process.returncode == 130, said
        assert not gone(family, within_s=1)
    assert house.supervisor.pids == pids


@pytest.mark.long  # a platform's start for one signal; tests/comitia/test_up.py ends servers of its own in this way
async def test_a_stack_of_its_own_stops_on_ctrl_c() -> None:
    with tempfile.TemporaryDirectory(prefix="comitia-demo-") as name:
        with demo("--data", name, "--free-ports", "--clients", "8") as process:
            await survey_of(process)
            family = family_of(process.pid)
            assert len(family) > 10
            process.send_signal(signal.SIGINT)
            said = await rest_of(process)
            assert process.returncode == 130, said
            assert not gone(family, within_s=1)
        state = read_state(Path(name))
        assert state is not None
        assert state.pids == {}
        postgres.forget(state.stack_id)
