"""The published ballots of a survey: every cell's in one list, in an order that follows from a secret.

A line's place is a keyed hash of its ballot's id under the survey's ballot key: the same in every try, so that files
are, and gone with the key. Nobody without it can tell which sealed ballot a line was.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from domain.contracts.certification import BallotFile, PublishedBallots
from domain.contracts.surveys import Survey
from domain.merkle import GrowingTree, leaf_hash
from domain.recount import add_counts, regions_of
from domain.survey_ports import ObjectStore
from domain.tally import Counts
from integrations.postgres.recount import RecountLedger
from integrations.recount.pages import BallotKey, open_for_publication
from integrations.recount.pool import CountingPool

FILE_BALLOTS = 250_000
_PIECE_BALLOTS = 5000


async def publish(
    survey: Survey,
    ledgers: Mapping[str, RecountLedger],
    keys: Mapping[str, BallotKey],
    pool: CountingPool,
    *,
    objects: ObjectStore,
    file_ballots: int,
    beat: Callable[[], None],
) -> PublishedBallots:
    """Open every ballot and write the files; repeated, the first files stay and are the same.

    Raises:
        DomainError: `ledger_unavailable`, `objects_unavailable`, `key_unavailable`.
    """
    counts: Counts = {}
    lines: list[tuple[bytes, bytes]] = []
    for cell, ledger in ledgers.items():
        async for _, page in pool.over(ledger.ballots(survey.id), open_for_publication, keys[cell]):
            lines += page.lines
            add_counts(counts, page.counts)
            beat()
    lines.sort()
    tree = GrowingTree()
    for start in range(0, len(lines), _PIECE_BALLOTS):
        for _, line in lines[start : start + _PIECE_BALLOTS]:
            tree.append(leaf_hash(line))
        beat()
        await asyncio.sleep(0)
    root = tree.root()  # in the names, so that a file that is there already is this one
    files = []
    for number, start in enumerate(range(0, len(lines), file_ballots), start=1):
        part = lines[start : start + file_ballots]
        name = f"ballots/{survey.id}/{root.hex()[:16]}/part_{number:05}.jsonl"
        files.append(BallotFile(stored=await objects.put(name, _pieces(part, beat)), ballots=len(part)))
    return PublishedBallots(files=tuple(files), ballots=len(lines), root=root, regions=regions_of(counts))


async def _pieces(lines: Sequence[tuple[bytes, bytes]], beat: Callable[[], None]) -> AsyncIterator[bytes]:
    for start in range(0, len(lines), _PIECE_BALLOTS):
        beat()
        yield b"".join(line for _, line in lines[start : start + _PIECE_BALLOTS])
