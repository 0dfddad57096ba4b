"""Receipts made by hand: a batch of participations, its entry, and the log that the entry is in."""

from datetime import UTC, datetime
from uuid import UUID

from domain.audit import canonical_entry
from domain.checkpoints import Checkpoint
from domain.log_proofs import EntryProof, ProvedEntry
from domain.merkle import leaf_hash, root
from domain.merkle_proofs import inclusion_path
from domain.merkle_tiles import GrowingTiles
from domain.receipts import Participation, ReceiptProof, prove_participation
from tests.log_world import ORIGIN, leaf, tree_head


def participations(count: int) -> list[Participation]:
    """Return participations in the order in which recording makes their root."""
    return [
        Participation(f"s_{'a' * 15}{'ab'[n % 2]}", bytes([n]) * 32, bytes([n, 1]) * 32, "north")
        for n in sorted(range(count), key=lambda n: (n % 2, n))
    ]


def entry_of(batch: list[Participation], **facts: object) -> bytes:
    """Return the entry of a batch as the ledger writes it."""
    body = {
        "batch": f"{'0' * 32}-1",
        "participations": len(batch),
        "participationsRoot": root(each.leaf for each in batch).hex(),
        "ballotsRoot": bytes(32).hex(),
        **facts,
    }
    return canonical_entry(str(UUID(int=1)), datetime(2026, 1, 2, tzinfo=UTC), "votes.recorded", body)


def proved(entry: bytes, index: int = 3, size: int = 6, origin: str = ORIGIN) -> ProvedEntry:
    """Return an entry with its proof in a log of `size` entries."""
    leaves = [entry if n == index else leaf(n) for n in range(size)]
    tree = GrowingTiles()
    tree.extend(map(leaf_hash, leaves))
    note = tree_head(tree, origin=origin)[1]
    path = inclusion_path([leaf_hash(each) for each in leaves], index)
    return ProvedEntry(entry, Checkpoint(origin, size, tree.root()), EntryProof(index, tuple(path), note))


def receipt(count: int = 5, own: int = 2) -> ReceiptProof:
    """Return the receipt of one of a batch of so many."""
    batch = participations(count)
    return prove_participation("eu", batch[own], batch[::-1], proved(entry_of(batch)))
