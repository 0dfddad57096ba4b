"""Gives audit entries their places, writes them into tiles that nobody changes, and signs the tree over them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from activities.log_reading import LogReading, contradicted, keep
from domain.audit_log import LeafEntry, bundle, checkpoint_path, log_folder, origin_of
from domain.audit_ports import AuditSequence, LockedObjects, LogSigner, SealingWatch, Sequences
from domain.checkpoints import Checkpoint, signed_note
from domain.contracts.audit import (
    AuditTreeHead,
    CompareAuditLogInput,
    ComparedAuditLog,
    SealAuditLogInput,
    SequencedAuditLog,
)
from domain.errors import DomainError, ErrorCode
from domain.merkle import leaf_hash
from domain.merkle_proofs import continues
from domain.merkle_tiles import TILE_WIDTH, GrowingTiles, Tile

SEQUENCED_AT_ONCE = 2_000
_TILES_AT_ONCE = 16
# Entries that are signed before the next ones are written: 16 steps, so that a store which is fast enough for the
# heartbeats (30 s) gets through within an attempt's ten minutes
SLICE_MOST = 16 * _TILES_AT_ONCE * TILE_WIDTH


class AuditSealingActivities:
    """Seals logs; holds the ports so that a test can pass its own."""

    def __init__(
        self,
        sequences: Sequences,
        objects: LockedObjects,
        signer: LogSigner,
        watch: SealingWatch,
        *,
        environment: str,
        slice_most: int = SLICE_MOST,
    ) -> None:
        """`environment` is a part of how logs call themselves, so that no test's log passes for a real one.

        `slice_most` is how many entries are written into tiles before the tree over them is signed.
        """
        self._sequences = sequences
        self._objects = objects
        self._signer = signer
        self._watch = watch
        self._environment = environment
        self._slice_most = slice_most

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.sequence_audit_log, self.write_audit_tiles, self.sign_audit_head, self.compare_audit_log]

    @activity.defn(name="sequence_audit_log")
    async def sequence_audit_log(self, request: SealAuditLogInput) -> SequencedAuditLog:
        """Give every entry a place that can have one now. Heartbeats; safe to repeat.

        Raises:
            ApplicationError: `audit_log_unavailable` (retried).
        """
        with self._guarded(request.log):
            sequence, more, size = self._sequence(request.log), True, 0
            while more:
                size, more = await sequence.sequence(SEQUENCED_AT_ONCE)
                self._watch.waiting(request.log, await sequence.waited())
                activity.heartbeat(size)
        return SequencedAuditLog(log=request.log, size=size)

    @activity.defn(name="write_audit_tiles")
    async def write_audit_tiles(self, request: SequencedAuditLog) -> AuditTreeHead:
        """Write the entries up to a size into tiles and bundles, behind what is signed. Heartbeats; safe to repeat.

        Of a long backlog only a slice: the tree head that is returned is smaller then, to be signed before the next
        one. Every file follows from the entries and the size, so whoever wrote one before wrote the same. Where as much
        is signed already, or more, that tree head is returned.

        Raises:
            ApplicationError: `audit_log_unavailable`, `objects_unavailable`, `key_unavailable` (retried);
                `audit_log_contradicted` where the database has other entries than were signed, or fewer.
        """
        with self._guarded(request.log):
            reading = self._reading(request.log)
            signed = await reading.newest()
            growing = await reading.growing(signed.size if signed is not None else 0)
            if signed is not None and growing.root() != signed.root:
                raise contradicted(f"the tiles of {signed.size} entries are not those that were signed")
            if signed is not None and signed.size:
                last = (signed.size - 1) // TILE_WIDTH
                await self._compare(reading, request.log, signed.size, range(last, last + 1))
            if signed is not None and signed.size >= request.size:  # somebody else may have gone on meanwhile
                self._watch.sealed(request.log, signed.size)
                return AuditTreeHead(log=request.log, size=signed.size, root=signed.root, is_signed=True)
            size = min(request.size, growing.size + self._slice_most)
            await self._write(request.log, size, growing)
        return AuditTreeHead(log=request.log, size=size, root=growing.root())

    @activity.defn(name="sign_audit_head")
    async def sign_audit_head(self, head: AuditTreeHead) -> AuditTreeHead:
        """Sign the tree of a size, once its tiles give this root and continue what was signed before. Safe to repeat.

        Nothing that a caller or a database says is signed: only what is kept in tiles.

        Raises:
            ApplicationError: `objects_unavailable`, `key_unavailable` (retried); `audit_log_contradicted`.
        """
        with self._guarded(head.log):
            reading = self._reading(head.log)
            signed = await reading.newest()
            if signed is None or signed.size < head.size:
                await self._sign(reading, signed, head)
            elif (await reading.root(head.size)) != head.root:
                raise contradicted(f"another root of {head.size} entries")
        self._watch.sealed(head.log, head.size)
        return head.model_copy(update={"is_signed": True})

    @activity.defn(name="compare_audit_log")
    async def compare_audit_log(self, request: CompareAuditLogInput) -> ComparedAuditLog:
        """Compare entries in the database with those that were sealed. Heartbeats; safe to repeat.

        Raises:
            ApplicationError: `audit_log_unavailable`, `objects_unavailable` (retried); `audit_log_contradicted`, which
                names the first entry that was changed, removed, or written behind the others.
        """
        with self._guarded(request.log):
            tiles = range(request.first, min(request.first + request.tiles, -(-request.size // TILE_WIDTH)))
            compared = await self._compare(self._reading(request.log), request.log, request.size, tiles)
            first, end = tiles.start * TILE_WIDTH, min(tiles.stop * TILE_WIDTH, request.size)
            if stray := await self._sequence(request.log).passed_over(first, end):
                raise contradicted(stray)
        return ComparedAuditLog(log=request.log, entries=compared)

    async def _compare(self, reading: LogReading, log: str, size: int, tiles: range) -> int:
        compared = 0
        for index in tiles:
            first = index * TILE_WIDTH
            sealed = await reading.leaf_hashes(index, size)
            found = await self._sequence(log).entries(first, first + len(sealed))
            for place, told in enumerate(sealed):
                entry = found[place] if place < len(found) else None
                if entry is None or entry.index != first + place or leaf_hash(entry.leaf) != told:
                    raise contradicted(_differs(first + place, entry))
            compared += len(sealed)
            activity.heartbeat(index)
        return compared

    async def _write(self, log: str, size: int, growing: GrowingTiles) -> None:
        step = _TILES_AT_ONCE * TILE_WIDTH
        first, begun = growing.size // TILE_WIDTH * TILE_WIDTH, growing.size
        while first < size:
            entries = await self._sequence(log).entries(first, min(first + step, size))
            _check_places(entries, first, min(first + step, size))
            growing.extend(entry.leaf_hash for entry in entries[max(0, begun - first) :])
            files = [*_bundles(entries, first), *((tile.path, content) for tile, content in growing.take_complete())]
            if growing.size == size:
                files += [(tile.path, content) for tile, content in growing.partial()]
            await self._keep(log, files)
            activity.heartbeat(growing.size)
            first += step

    async def _sign(self, reading: LogReading, signed: Checkpoint | None, head: AuditTreeHead) -> None:
        if (await reading.root(head.size)) != head.root:
            raise contradicted(f"the tiles of {head.size} entries have another root")
        if signed is not None:
            proof = await reading.consistency(signed.size, head.size)
            if not continues(signed.size, signed.root, head.size, head.root, proof):
                raise contradicted(f"{head.size} entries do not continue the {signed.size} that are signed")
        checkpoint = Checkpoint(reading.origin, head.size, head.root)
        public_key, signature = await self._signer.sign(checkpoint.text)
        note = signed_note(checkpoint.text, reading.origin, public_key, signature)
        await self._keep(head.log, [(checkpoint_path(head.size), note)])

    async def _keep(self, log: str, files: Sequence[tuple[str, bytes]]) -> None:
        await keep(self._objects, ((f"{log_folder(log)}/{path}", content) for path, content in files))

    def _reading(self, log: str) -> LogReading:
        return LogReading(self._objects, self._signer, log, origin_of(self._environment, log))

    def _sequence(self, log: str) -> AuditSequence:
        if log not in self._sequences:  # a worker that does not know the cell yet; another one may
            raise DomainError(ErrorCode.AUDIT_LOG_UNAVAILABLE, f"no address of {log}")
        return self._sequences[log]

    @contextmanager
    def _guarded(self, log: str) -> Iterator[None]:
        try:
            yield
        except DomainError as error:
            if error.code is ErrorCode.AUDIT_LOG_CONTRADICTED:
                self._watch.contradicted(log, error.detail)
            raise to_application_error(error) from error


def _check_places(entries: Sequence[LeafEntry], first: int, end: int) -> None:
    """See that nothing is missing and nothing was changed since it got its place."""
    for place in range(first, end):
        entry = entries[place - first] if place - first < len(entries) else None
        if entry is None or entry.index != place or leaf_hash(entry.leaf) != entry.leaf_hash:
            raise contradicted(_differs(place, entry))


def _differs(place: int, entry: LeafEntry | None) -> str:
    if entry is None or entry.index != place:
        return f"entry {place} is gone"
    what = f"entry {place} ({entry.kind} {entry.entry_id})" if entry.leaf else f"entry {place} ({entry.entry_id})"
    return f"{what} is {'not what it was' if entry.leaf else 'gone'}"


def _bundles(entries: Sequence[LeafEntry], first: int) -> Iterator[tuple[str, bytes]]:
    for at in range(0, len(entries), TILE_WIDTH):
        leaves = [entry.leaf for entry in entries[at : at + TILE_WIDTH]]
        yield Tile(0, (first + at) // TILE_WIDTH, len(leaves)).entries_path, bundle(leaves)
