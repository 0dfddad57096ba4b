"""That somebody took part, in a file that is checked without us: the way of a participation up to a signed tree head.

A batch's audit entry commits to its participations by a Merkle root, and the entry is in the audit log of its cell. So
a file with both ways shows that this participation is recorded, and nothing of any ballot. It is the voter's own: it
names the nullifier, as the voting token does.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from domain.audit import AuditKind
from domain.certificates import canonical_json
from domain.checkpoints import IsSigned, Keys, open_checkpoint
from domain.framing import framed
from domain.hexadecimal import bytes_of
from domain.log_proofs import EntryProof, ProvedEntry, read_proof, verify_entry
from domain.merkle import leaf_hash
from domain.merkle_proofs import includes, inclusion_path
from domain.verification import Check, UnreadableError

FORMAT: Final = "comitia-receipt/1"


class _Own(msgspec.Struct, forbid_unknown_fields=True):
    survey: str
    nullifier: str
    evidence: str
    region: str


class _File(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    format: str
    cell: str
    participation: _Own
    index: int
    size: int
    path: list[str]
    batch_root: str
    entry: dict[str, Any]
    entry_proof: str


@dataclass(frozen=True, slots=True)
class Participation:
    """A participation as the ledger has it: 32 bytes of nullifier, 64 of evidence."""

    survey_id: str
    nullifier: bytes = field(repr=False)
    evidence: bytes = field(repr=False)
    region: str

    @property
    def leaf(self) -> bytes:
        """What a batch's root is made of: as `domain.recording.participation_leaf`."""
        return framed(self.survey_id.encode(), self.nullifier, self.evidence, self.region.encode())


@dataclass(frozen=True, slots=True)
class ReceiptProof:
    """A participation, its place among the `size` ones of its batch and the hashes up from there, and the entry."""

    cell: str
    participation: Participation
    index: int
    size: int
    path: tuple[bytes, ...]
    batch_root: bytes
    entry: bytes
    entry_proof: EntryProof

    @property
    def file(self) -> bytes:
        """The file, in the one form that it has."""
        return canonical_json(
            {
                "format": FORMAT,
                "cell": self.cell,
                "participation": {
                    "survey": self.participation.survey_id,
                    "nullifier": self.participation.nullifier.hex(),
                    "evidence": self.participation.evidence.hex(),
                    "region": self.participation.region,
                },
                "index": self.index,
                "size": self.size,
                "path": [one.hex() for one in self.path],
                "batchRoot": self.batch_root.hex(),
                "entry": json.loads(self.entry),
                "entryProof": self.entry_proof.text.decode(),
            }
        )


def participations_of(entry: bytes) -> int:
    """Return how many participations the entry of a batch commits to. Raises ValueError: it is no such entry."""
    return _commitment(json.loads(entry))[0]


def batch_of(entry: bytes) -> str:
    """Return the id of the batch that an entry is of, as `participations_of`."""
    _commitment(json.loads(entry))
    return str(json.loads(entry)["body"]["batch"])


def prove_participation(
    cell: str, own: Participation, of_batch: Collection[Participation], proved: ProvedEntry
) -> ReceiptProof:
    """Return the proof of one participation from all those of its batch, in any order.

    Raises:
        ValueError: these are not what the entry commits to, or it is not among them.
    """
    # The order in which recording made the root
    ordered = sorted(of_batch, key=lambda each: (each.survey_id, each.nullifier))
    return prove_leaf(cell, own, [leaf_hash(each.leaf) for each in ordered], proved)


def prove_leaf(cell: str, own: Participation, of_batch: Sequence[bytes], proved: ProvedEntry) -> ReceiptProof:
    """Return the proof of one participation from the leaf hashes of its batch, in the order of its root.

    Raises:
        ValueError: these are not what the entry commits to, or it is not among them.
    """
    size, batch_root = _commitment(json.loads(proved.entry))
    hashes, mine = list(of_batch), leaf_hash(own.leaf)
    if len(hashes) != size or mine not in hashes:
        raise ValueError("not the participations of this batch")
    index = hashes.index(mine)
    path = inclusion_path(hashes, index)
    if not includes(mine, index, size, path, batch_root):
        raise ValueError("not the participations of this batch")
    return ReceiptProof(cell, own, index, size, tuple(path), batch_root, proved.entry, proved.proof)


def verify_receipt(content: bytes, keys: Keys, is_signed: IsSigned) -> list[Check]:
    """Return every check, in order; the file is good where all hold. Whatever is no such file fails the first."""
    try:
        receipt = _read(content)
    except (ValueError, RecursionError) as error:
        return [Check("a receipt in the one form", holds=False, detail=str(error) or type(error).__name__)]
    own = receipt.participation
    checks = [
        Check("a receipt in the one form", holds=True, detail=f"{len(content):,} bytes"),
        *verify_entry(receipt.entry, receipt.entry_proof, keys, is_signed),
    ]
    if not checks[1].holds:
        return checks
    origin = open_checkpoint(receipt.entry_proof.note, keys, is_signed).origin
    in_batch = includes(leaf_hash(own.leaf), receipt.index, receipt.size, receipt.path, receipt.batch_root)
    return [
        *checks,
        Check("the log is that of the cell", holds=origin.rpartition("/")[2] == receipt.cell, detail=origin),
        Check(
            "the entry commits to the batch",
            holds=_commits(receipt),
            detail=f"{receipt.size} participations, {receipt.batch_root.hex()}",
        ),
        Check(
            "the participation is in the batch",
            holds=in_batch,
            detail=f"survey {own.survey_id}, nullifier {own.nullifier.hex()}, {len(receipt.path)} hashes",
        ),
    ]


def _commits(receipt: ReceiptProof) -> bool:
    try:
        return _commitment(json.loads(receipt.entry)) == (receipt.size, receipt.batch_root)
    except ValueError:
        return False


def _commitment(entry: Any) -> tuple[int, bytes]:
    """Return what the entry of a batch says: how many participations, and the root over them."""
    try:
        if entry["kind"] == AuditKind.VOTES_RECORDED:
            return int(entry["body"]["participations"]), bytes_of(entry["body"]["participationsRoot"])
    except (KeyError, TypeError) as error:
        raise ValueError("not the entry of a batch") from error
    raise ValueError("not the entry of a batch")


def _read(content: bytes) -> ReceiptProof:
    document = msgspec.json.decode(content, type=_File)
    if document.format != FORMAT:
        raise UnreadableError("not a receipt of a known format")
    own = document.participation
    found = ReceiptProof(
        cell=document.cell,
        participation=Participation(own.survey, bytes_of(own.nullifier), bytes_of(own.evidence), own.region),
        index=document.index,
        size=document.size,
        path=tuple(map(bytes_of, document.path)),
        batch_root=bytes_of(document.batch_root),
        entry=canonical_json(document.entry),
        entry_proof=read_proof(document.entry_proof.encode()),
    )
    if found.file != content:
        raise UnreadableError("not in the one form")
    return found
