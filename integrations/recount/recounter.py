"""Counts the sealed ballots of a cell again, and publishes those of all cells."""

from collections.abc import Callable, Mapping
from typing import Final

from domain.contracts.certification import (
    CellRecount,
    CertificationDifference,
    PublishBallotsInput,
    PublishedBallots,
    RecountCellInput,
    RecountProgress,
)
from domain.errors import DomainError, ErrorCode
from domain.merkle import GrowingTree, leaf_hash
from domain.ports import KeyManagement
from domain.recount import (
    DIFFERENCES_MAX,
    BatchKey,
    add_counts,
    batch_leaf,
    counts_of,
    differing_batches,
    regions_of,
)
from domain.survey_ports import ObjectStore
from domain.tally import Counts
from integrations.postgres.recount import RecountLedger
from integrations.recount.pages import BallotKey, count_ballots, count_by_batch, participation_leaves
from integrations.recount.pool import SMALL, CountingPool
from integrations.recount.publishing import FILE_BALLOTS, publish

_HASH: Final = 32

Beat = Callable[[], None]


class LedgerRecounter:
    """Implements `Recounter`. The ballot key is unwrapped here, used in processes that end with the work, and dropped.

    What a survey counts again in memory: the counts, and one page per process and a few that wait. What it publishes
    in memory: every line.
    """

    def __init__(
        self,
        cells: Mapping[str, RecountLedger],
        keys: KeyManagement,
        objects: ObjectStore,
        *,
        processes: int = 0,
        small: int = SMALL,
        file_ballots: int = FILE_BALLOTS,
    ) -> None:
        """`processes` 0 is one per core, used for pages of more than `small` rows.

        A published file has `file_ballots` ballots at most.
        """
        self._cells = cells
        self._keys = keys
        self._objects = objects
        self._processes = processes
        self._small = small
        self._file_ballots = file_ballots

    async def recount(
        self, request: RecountCellInput, progress: RecountProgress, keep: Callable[[RecountProgress], None]
    ) -> CellRecount:
        """Count a cell's ballots again from where `progress` is; `keep` hears how far it is."""
        ledger, survey_id = self._ledger(request.cell), request.survey.id
        key = await self._key(ledger, request)
        with CountingPool(self._processes, small=self._small) as pool:
            done = await _count(request.cell, ledger, pool, key, progress=progress, keep=keep)
            counts = counts_of(done.regions)
            differences = list(done.differences)

            def beat() -> None:
                keep(done)

            if counts != await ledger.counts(survey_id):
                by_batch = await _by_batch(ledger, pool, key, beat)
                recorded = await ledger.counts_by_batch(survey_id)
                differences += differing_batches(request.cell, by_batch, recorded)
            participations = await _participations(survey_id, ledger, pool, beat)
        batches = await _batches(survey_id, ledger, beat)
        if participations.size != done.ballots:
            detail = f"{participations.size} participations, {done.ballots} ballots"
            differences.append(
                CertificationDifference(
                    cell=request.cell, kind="participations_differ", row=f"survey {survey_id}", detail=detail
                )
            )
        return CellRecount(
            cell=request.cell,
            participations=participations.size,
            ballots=done.ballots,
            batches=batches.size,
            participations_root=participations.root(),
            ballots_root=GrowingTree(done.peaks, done.ballots).root(),
            batches_root=batches.root(),
            regions=done.regions,
            differences=tuple(differences[:DIFFERENCES_MAX]),
        )

    async def publish(self, request: PublishBallotsInput, beat: Beat) -> PublishedBallots:
        """Write the opened ballots of all cells into files, in an order that says nothing; repeated, the same files."""
        ledgers = {cell: self._ledger(cell) for cell in request.cells}
        keys = {
            cell: await self._key(ledger, RecountCellInput(cell=cell, survey=request.survey))
            for cell, ledger in ledgers.items()
        }
        with CountingPool(self._processes, small=self._small) as pool:
            return await publish(
                request.survey,
                ledgers,
                keys,
                pool,
                objects=self._objects,
                file_ballots=self._file_ballots,
                beat=beat,
            )

    def _ledger(self, cell: str) -> RecountLedger:
        if cell not in self._cells:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, f"cell {cell} cannot be reached")
        return self._cells[cell]

    async def _key(self, ledger: RecountLedger, request: RecountCellInput) -> BallotKey:
        wrapped = await ledger.wrapped_key(request.survey.id)
        return BallotKey(request.survey, await self._keys.unwrap(wrapped, request.survey.id))


async def _count(
    cell: str,
    ledger: RecountLedger,
    pool: CountingPool,
    key: BallotKey,
    *,
    progress: RecountProgress,
    keep: Callable[[RecountProgress], None],
) -> RecountProgress:
    counts, tree = counts_of(progress.regions), GrowingTree(progress.peaks, progress.ballots)
    differences = list(progress.differences)
    pages = ledger.ballots(key.survey.id, progress.after)
    async for rows, page in pool.over(pages, count_ballots, key):
        add_counts(counts, page.counts)
        _add_leaves(tree, page.leaves)
        differences += [
            CertificationDifference(cell=cell, kind="ballot_unreadable", row=row, detail=reason)
            for row, reason in page.unreadable[: DIFFERENCES_MAX - len(differences)]
        ]
        progress = RecountProgress(
            after=rows[-1].ballot_id,
            ballots=tree.size,
            regions=regions_of(counts),
            peaks=tree.peaks,
            differences=tuple(differences),
        )
        keep(progress)
    return progress


async def _by_batch(ledger: RecountLedger, pool: CountingPool, key: BallotKey, beat: Beat) -> dict[BatchKey, Counts]:
    """Count again batch by batch: only where the totals differ, to find the batch."""
    found: dict[BatchKey, Counts] = {}
    async for _, page in pool.over(ledger.ballots(key.survey.id), count_by_batch, key):
        for batch, counts in page.items():
            add_counts(found.setdefault(batch, {}), counts)
        beat()
    return found


async def _participations(survey_id: str, ledger: RecountLedger, pool: CountingPool, beat: Beat) -> GrowingTree:
    tree = GrowingTree()
    async for _, leaves in pool.over(ledger.participations(survey_id), participation_leaves, survey_id):
        _add_leaves(tree, leaves)
        beat()
    return tree


async def _batches(survey_id: str, ledger: RecountLedger, beat: Beat) -> GrowingTree:
    tree = GrowingTree()
    async for page in ledger.batches(survey_id):
        for row in page:
            leaf = batch_leaf(row.key, row.input_digest, row.outcomes, row.participations_root, row.ballots_root)
            tree.append(leaf_hash(leaf))
        beat()
    return tree


def _add_leaves(tree: GrowingTree, leaves: bytes) -> None:
    for start in range(0, len(leaves), _HASH):
        tree.append(leaves[start : start + _HASH])
