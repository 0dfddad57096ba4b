"""A load that goes on while something is killed: how long nothing is confirmed, and whether a promise was broken."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import Entry, LoadSpec, read_journal, read_requests, write_requests
from benchmarks.processes import run_load
from benchmarks.products import recorded_votes, tallied_votes
from benchmarks.report import CheckFailedError, check_equal
from benchmarks.voters import Polling
from comitia.stack.supervisor import Supervisor
from domain.tokens import VotingWire
from integrations.keys import base64url

_CONNECTIONS = 64
_DRAIN_S = 30.0
_SETTLED_WITHIN_S = 90.0
_LOOK_EVERY_S = 0.5
_IN_A_ROW = 3  # one good answer may be luck
_CONFIRMED, _ACCEPTED = 201, 202
_EXPECTED = frozenset({_CONFIRMED, _ACCEPTED, 503})


@dataclass(frozen=True, slots=True)
class Interruption:
    """What a kill in the middle of a load came to."""

    until_confirmed_s: float  # from the kill to the first of three receipts in a row, of votes cast after it
    until_right_s: float  # from the end of the load until ledger and tally agree; what was accepted is in both
    statuses: dict[int, int]
    lost: int  # who was told 201 or 202 and is not in the ledger: 0, or this is not returned
    checked: str

    @property
    def summary(self) -> str:
        """It in one line."""
        answers = ", ".join(f"{count:,} x {status or 'no answer'}" for status, count in sorted(self.statuses.items()))
        return f"{answers}; {self.checked}; ledger and tally agreed {self.until_right_s:.1f} s after the load"


async def vote_through(
    ground: Ground,
    supervisor: Supervisor,
    kill: Callable[[], Awaitable[object]],
    *,
    rate: float,
    before_s: float,
    seconds: float,
) -> Interruption:
    """Cast votes at `rate` per second for `seconds`, let `kill` do its work after `before_s`, and compare.

    Raises:
        CheckFailedError: somebody who was told 201 or 202 is not in the ledger, ledger and tally differ, an answer was
            none of 201, 202 and 503, or nothing was confirmed any more.
    """
    survey = await ground.open_survey()
    polling = Polling(CELL, survey.id, supervisor.url("votes"))
    requests, journal = (ground.folder / f"{kind}-{survey.id}" for kind in ("requests", "journal"))
    votes = ground.voters.requests(polling, int(rate * seconds))
    await asyncio.to_thread(write_requests, requests, votes)
    spec = LoadSpec(
        ports=[urlsplit(polling.url).port or 0],
        requests=str(requests),
        connections=_CONNECTIONS,
        duration_s=seconds,
        drain_s=_DRAIN_S,
        rate=rate,
        journal=str(journal),
    )
    try:
        loading = asyncio.create_task(run_load(spec))
        await asyncio.sleep(before_s)
        killed_at = time.perf_counter()
        await kill()
        await loading
        ended_at = time.perf_counter()
        entries = await asyncio.to_thread(read_journal, journal)
        acknowledged = await asyncio.to_thread(_acknowledged, entries, requests)
    finally:
        for file in (requests, journal):
            file.unlink(missing_ok=True)
    lost, checked = await _agree(ground, survey.id, acknowledged)
    right_after = time.perf_counter() - ended_at
    statuses = [entry.status for entry in entries]
    if unexpected := set(statuses) - _EXPECTED:
        raise CheckFailedError(f"answers that nobody should get: {unexpected}")
    again = _confirmed_again(entries, killed_at)
    counts = {status: statuses.count(status) for status in set(statuses)}
    return Interruption(again - killed_at, right_after, counts, lost, checked)


def _confirmed_again(entries: list[Entry], killed_at: float) -> float:
    """Return when the first of three votes that were cast one after the other after the kill was confirmed.

    Raises:
        CheckFailedError: there are no such three.
    """
    cast_after = sorted((entry for entry in entries if entry.due > killed_at), key=lambda entry: entry.due)
    for at in range(len(cast_after) - _IN_A_ROW + 1):
        row = cast_after[at : at + _IN_A_ROW]
        if all(entry.status == _CONFIRMED for entry in row):
            return row[0].answered
    raise CheckFailedError("no three votes in a row that were cast after the kill were confirmed")


def _acknowledged(entries: list[Entry], requests: Path) -> set[bytes]:
    """Return the nullifiers of those who hold a 201 or a 202."""
    sent = read_requests(requests)
    told = (index for index, entry in enumerate(entries) if entry.status in {_CONFIRMED, _ACCEPTED})
    return {_nullifier(sent[index]) for index in told}


def _nullifier(request: bytes) -> bytes:
    token = request.partition(b"Authorization: Bearer ")[2].partition(b"\r\n")[0]
    claims = msgspec.json.decode(base64url.decode(token.split(b".")[1]), type=VotingWire)
    return base64url.decode(claims.nullifier.encode())


async def _agree(ground: Ground, survey_id: str, acknowledged: set[bytes]) -> tuple[int, str]:
    """Wait until everybody who was promised a vote is in the ledger and the tally has caught up; then compare."""
    give_up_at = time.monotonic() + _SETTLED_WITHIN_S
    while True:
        rows = await ground.owner.fetch("SELECT nullifier FROM voting.participation WHERE survey_id = $1", survey_id)
        missing = acknowledged - {row["nullifier"] for row in rows}
        counts = {**(await recorded_votes(ground, survey_id)), **(await tallied_votes(ground, survey_id))}
        if (not missing and set(counts.values()) == {len(rows)}) or time.monotonic() > give_up_at:
            break
        await asyncio.sleep(_LOOK_EVERY_S)
    promised = f"{len(acknowledged):,} acknowledged, {len(rows):,} recorded"
    if missing:
        raise CheckFailedError(f"{len(missing)} acknowledged votes are not in the ledger: {promised}")
    return len(missing), f"{promised}; {check_equal('ledger and tally', rows=len(rows), **counts)}"
