"""What compliance officers see of audit logs. Hashes are hexadecimal."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from api.compliance.searching import FoundPage
from api.http.models import ApiModel
from domain.checkpoints import Checkpoint
from domain.log_proofs import ProvedEntry
from domain.merkle import leaf_hash


class LogBody(ApiModel):
    """A log, and how far it is sealed."""

    log: str = Field(description="A cell, or `catalogue`.")
    size: int = Field(description="Entries under the newest tree head; 0 where nothing is sealed yet.")
    root: str | None

    @classmethod
    def of(cls, log: str, head: Checkpoint | None) -> "LogBody":
        """Return a log as it is shown."""
        return cls(log=log, size=0 if head is None else head.size, root=None if head is None else head.root.hex())


class LogsBody(ApiModel):
    """Every log, and the keys that its tree heads are checked with."""

    logs: tuple[LogBody, ...] = Field(strict=False)
    verifier_keys: tuple[str, ...] = Field(strict=False, description="As tools for C2SP signed notes take them.")

    @classmethod
    def of(cls, logs: Sequence[tuple[str, Checkpoint | None]], keys: Sequence[str]) -> "LogsBody":
        """Return the logs as they are shown."""
        return cls(logs=tuple(LogBody.of(log, head) for log, head in logs), verifier_keys=tuple(keys))


class EntryBody(ApiModel):
    """An entry of the catalogue of audit entries, where it stands, and the tree that it is proved in."""

    log: str
    index: int
    size: int = Field(description="Of the tree that the proof leads to.")
    entry: dict[str, Any] = Field(description="The entry: `id`, `at`, `kind`, `body`. Its leaf is its canonical JSON.")
    leaf_hash: str
    hashes: tuple[str, ...] = Field(strict=False, description="From the entry's sibling up (RFC 9162, 2.1.3).")
    root: str
    proof: str = Field(description="The same with the signed tree head, as C2SP tlog-proof has it.")

    @classmethod
    def of(cls, log: str, proved: ProvedEntry) -> "EntryBody":
        """Return an entry as it is shown."""
        return cls(
            log=log,
            index=proved.proof.index,
            size=proved.head.size,
            entry=json.loads(proved.entry),
            leaf_hash=leaf_hash(proved.entry).hex(),
            hashes=tuple(found.hex() for found in proved.proof.hashes),
            root=proved.head.root.hex(),
            proof=proved.proof.text.decode(),
        )


class FoundEntryBody(ApiModel):
    """An entry that was found, and its place, by which its proof is read."""

    index: int
    entry: dict[str, Any] = Field(description="The entry: `id`, `at`, `kind`, `body`.")


class FoundEntriesBody(ApiModel):
    """Entries of a log, the newest first."""

    log: str
    searched: int = Field(description="Up to which place everything is found; what is behind it comes within moments.")
    entries: tuple[FoundEntryBody, ...] = Field(strict=False)
    next_cursor: str | None = Field(
        default=None, description="Where the list goes on.", exclude_if=lambda value: value is None
    )

    @classmethod
    def of(cls, log: str, page: FoundPage) -> "FoundEntriesBody":
        """Return a page as it is shown."""
        return cls(
            log=log,
            searched=page.size,
            entries=tuple(FoundEntryBody(index=found.index, entry=dict(found.entry)) for found in page.entries),
            next_cursor=None if page.before is None else str(page.before),
        )


class ConsistencyBody(ApiModel):
    """That a tree of `to` entries begins with that of `from` (RFC 9162, 2.1.4)."""

    log: str
    old: int = Field(alias="from")
    new: int = Field(alias="to")
    hashes: tuple[str, ...] = Field(strict=False)
