"""Voting tokens issued per second: access token checked, voter read, risk judged, two signatures."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import LoadSpec, write_requests
from benchmarks.processes import CpuWatch, run_load
from benchmarks.products import pids, services
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import CLIENTS, Run
from benchmarks.voters import REGIONS
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN, VOTING_TOKEN, public
from integrations.keys.signing import VerificationKeys
from integrations.keys.tokens import VotingTokenVerifier
from integrations.postgres.directory import Directory
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY

_EXPECTED = 6000.0  # per second: as many verified voters are made beforehand
_CHUNK = 5000
_PUT_OFF = ("403/step_up_required", "503/overloaded")  # where the risk rules were too late, or there was no room


class _Issued(msgspec.Struct, rename="camel"):
    voting_token: str


async def measure(run: Run) -> list[Line]:
    """Let as many different verified voters ask as can, each once, and verify what some of them got."""
    ground = run.ground
    survey = await ground.open_survey()
    tokens = AccessTokens(FileKms(_keys(ground), frozenset({ACCESS_TOKEN, STAFF_TOKEN})))
    await tokens.refresh()
    voters = await _voters(ground, int(_EXPECTED * run.seconds))
    path = ground.folder / "requests-admission"
    async with services(ground, ("api-eligibility",)) as supervisor:
        url = urlsplit(supervisor.url("eligibility"))
        await asyncio.to_thread(write_requests, path, _requests(tokens, voters, survey.id, url.netloc))
        watch = CpuWatch(pids(ground, supervisor))
        watch.start()
        result = await run_load(
            LoadSpec(
                ports=[url.port or 0],
                requests=str(path),
                connections=CLIENTS,
                duration_s=run.seconds,
                warmup_s=2,
                good="201/token",
            )
        )
        cores = ", ".join(f"{name} {value:.2f}" for name, value in watch.cores().items() if value >= 0.005)
    path.unlink()
    put_off = sum(result.counts.get(kind, 0) for kind in _PUT_OFF)
    check_equal(f"answers {result.counts}", sent=result.sent, expected=result.good + put_off)
    checked = check_equal("voting tokens", issued=result.good, distinct=result.distinct_tokens)
    await _verify(ground, survey.id, result.samples)
    detail = (
        f"{CLIENTS} clients, p50 {result.latency_ms.p50:.0f} ms, p99 {result.latency_ms.p99:.0f} ms; cores: {cores}, "
        f"client {result.client_cpu:.2f}; {checked}; {len(result.samples)} verified; "
        f"{put_off} put off"
    )
    return [line("voting tokens issued", result.rate, "tokens/s", Goal(at_least=2000), detail)]


def _requests(tokens: AccessTokens, voters: list[tuple[str, str]], survey_id: str, host: str) -> Iterator[bytes]:
    head = f"POST /v1/surveys/{survey_id}/voting-token HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n"
    for voter_id, region in voters:
        yield f"{head}Authorization: Bearer {tokens.voter(voter_id, CELL, region)}\r\n\r\n".encode("ascii")


async def _voters(ground: Ground, count: int) -> list[tuple[str, str]]:
    settings = ground.state.settings_for(IDENTITY)
    pool = await open_pool(settings.cells[CELL].database, settings, IDENTITY, size=1)
    made: list[tuple[str, str]] = []
    try:
        directory = Directory(pool, CELL)
        while len(made) < count:
            region = REGIONS[len(made) // _CHUNK % len(REGIONS)]
            made += ((voter_id, region) for voter_id in await directory.create_voters(_CHUNK, region))
    finally:
        await pool.close()
    await ground.owner.execute("ANALYZE identity.voter")
    return made[:count]


async def _verify(ground: Ground, survey_id: str, samples: list[str]) -> None:
    """Open some of the tokens as the vote route would. Raises DomainError where one is not good."""
    keys = VerificationKeys(FileKms(_keys(ground), frozenset({public(VOTING_TOKEN)})), VOTING_TOKEN)
    await keys.refresh()
    verifier = VotingTokenVerifier(keys)
    nullifiers = set()
    for sample in samples:
        token = msgspec.json.decode(sample, type=_Issued).voting_token
        claims = verifier.verify(token.encode("ascii"), time.time())
        check_equal("the survey of a token", matching=int(claims.survey_id == survey_id), expected=1)
        nullifiers.add(claims.nullifier)
    check_equal("people behind tokens", tokens=len(samples), nullifiers=len(nullifiers))


def _keys(ground: Ground) -> Path:
    assert ground.settings.keys_folder is not None
    return ground.settings.keys_folder
