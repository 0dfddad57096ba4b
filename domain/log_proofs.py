"""That one entry is in an audit log, in a file that is checked without the log. Source: C2SP tlog-proof."""

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

from domain.checkpoints import Checkpoint, IsSigned, Keys, NoCheckpointError, open_checkpoint
from domain.merkle import leaf_hash
from domain.merkle_proofs import includes
from domain.merkle_tiles import HASH_BYTES
from domain.verification import Check, UnreadableError

FORMAT: Final = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class EntryProof:
    """The place of an entry, the hashes from its sibling up, and the signed tree head that they lead to."""

    index: int
    hashes: tuple[bytes, ...]
    note: bytes

    @property
    def text(self) -> bytes:
        """The proof as a file."""
        lines = [FORMAT, f"index {self.index}", *(b64encode(found).decode() for found in self.hashes), "", ""]
        return "\n".join(lines).encode() + self.note


@dataclass(frozen=True, slots=True)
class ProvedEntry:
    """An entry in its canonical form, the tree head that it is under, and the proof of that."""

    entry: bytes
    head: Checkpoint
    proof: EntryProof


def read_proof(content: bytes) -> EntryProof:
    """Return the proof in a file.

    Raises:
        UnreadableError: this is none; one with extra data is none of ours.
    """
    head, separator, note = content.partition(b"\n\n")
    try:
        first, index, *lines = head.decode().split("\n")
        hashes = tuple(b64decode(line, validate=True) for line in lines)
    except ValueError as error:
        raise UnreadableError("not a proof") from error
    found = _INDEX.fullmatch(index)
    if first != FORMAT or found is None or not separator or any(len(one) != HASH_BYTES for one in hashes):
        raise UnreadableError("not a proof")
    proof = EntryProof(int(found[1]), hashes, note)
    if proof.text != content:
        raise UnreadableError("not a proof in the one form")
    return proof


def verify_entry(entry: bytes, proof: EntryProof, keys: Keys, is_signed: IsSigned) -> list[Check]:
    """Return every check, in order: that the tree head is signed, and that the entry is under it at its place."""
    try:
        head = open_checkpoint(proof.note, keys, is_signed)
    except NoCheckpointError as error:
        return [Check("signature of the tree head", holds=False, detail=str(error))]
    return [
        Check("signature of the tree head", holds=True, detail=f"{head.origin}, {head.size:,} entries"),
        Check(
            "the entry is in the tree",
            holds=includes(leaf_hash(entry), proof.index, head.size, proof.hashes, head.root),
            detail=f"entry {proof.index}, {len(proof.hashes)} hashes",
        ),
    ]
