"""Histories in one file, one behind the other: a line of canonical JSON about each, then its bytes.

A file says by itself what is in it, so an archive can be read where its index is lost. It is encrypted as far as the
histories in it are: their payloads are ciphertext of our codec's; ids, types, kinds of events and instants are not.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from domain.certificates import canonical_json, instant
from domain.contracts.archive import ClosedExecution, HistoryPack

PACK_BYTES: Final = 16 * 1024 * 1024  # of histories in a file; one that is larger has a file of its own
PACK_MOST: Final = 256  # histories in a file
READABLE: Final = "readable_payload"  # why a history is left out: a payload in it is not encrypted
GONE: Final = "history_gone"  # the server listed it, and had it no more
_MAGIC: Final = b"comitia-histories/1\n"
_LINE_MAX: Final = 4096


class NotAPackError(ValueError):
    """A file is not what was packed; it names the first history that is not as it was, where there is one."""


@dataclass(frozen=True, slots=True)
class PackedHistory:
    """One history: `events` is a serialized `temporal.api.history.v1.History`, which begins at `first_byte`."""

    workflow_id: str
    run_id: str
    workflow_type: str
    started_at: datetime
    closed_at: datetime
    events: bytes
    first_byte: int = 0

    @property
    def run(self) -> tuple[str, str]:
        """What no other history has."""
        return self.workflow_id, self.run_id

    @property
    def digest(self) -> bytes:
        """The SHA-256 of its bytes."""
        return sha256(self.events).digest()


def packed(execution: ClosedExecution, events: bytes) -> PackedHistory:
    """Return the history of an execution."""
    return PackedHistory(
        execution.workflow_id,
        execution.run_id,
        execution.workflow_type,
        execution.started_at,
        execution.closed_at,
        events,
    )


def pack(histories: Sequence[PackedHistory]) -> bytes:
    """Return the file of these histories; the same ones in the same order give the same bytes."""
    parts = [_MAGIC]
    for history in histories:
        parts += [_line(history), history.events, b"\n"]
    return b"".join(parts)


def unpack(content: bytes) -> list[PackedHistory]:
    """Return the histories of a file.

    Raises:
        NotAPackError: it is none, or a history in it is not the one that it says it is.
    """
    if not content.startswith(_MAGIC):
        raise NotAPackError("not a file of histories")
    found, place = [], len(_MAGIC)
    while place < len(content):
        end = content.find(b"\n", place, place + _LINE_MAX)
        head = _head(content[place:end]) if end >= 0 else None
        if head is None:
            raise NotAPackError(f"byte {place}")
        first = end + 1
        place = first + head["size"] + 1
        events = content[first : place - 1]
        if sha256(events).hexdigest() != head["sha256"] or content[place - 1 : place] != b"\n":
            raise NotAPackError(f"{head['workflowId']} {head['runId']}")
        found.append(_history(head, events, first))
    return found


def pack_name(planned: HistoryPack) -> str:
    """Return the name of the file of these executions: whoever packs them again writes the same file."""
    runs = canonical_json([[execution.workflow_id, execution.run_id] for execution in planned.executions])
    day = min(execution.closed_at for execution in planned.executions).astimezone(UTC).strftime("%Y/%m/%d")
    return f"histories/{planned.cell}/{day}/{sha256(runs).hexdigest()}.pack"


def packs_of(cell: str, executions: Sequence[ClosedExecution]) -> Iterator[HistoryPack]:
    """Return these executions by files, in their order."""
    chosen: list[ClosedExecution] = []
    size = 0
    for execution in executions:
        if chosen and (len(chosen) == PACK_MOST or size + execution.size_bytes > PACK_BYTES):
            yield HistoryPack(cell=cell, executions=tuple(chosen))
            chosen, size = [], 0
        chosen.append(execution)
        size += execution.size_bytes
    if chosen:
        yield HistoryPack(cell=cell, executions=tuple(chosen))


def _line(history: PackedHistory) -> bytes:
    head = {
        "closedAt": instant(history.closed_at),
        "runId": history.run_id,
        "sha256": history.digest.hex(),
        "size": len(history.events),
        "startedAt": instant(history.started_at),
        "type": history.workflow_type,
        "workflowId": history.workflow_id,
    }
    return canonical_json(head) + b"\n"


def _head(line: bytes) -> dict[str, Any] | None:
    try:
        head = json.loads(line)
        known = {"closedAt", "runId", "sha256", "size", "startedAt", "type", "workflowId"}
        return head if known <= head.keys() and head["size"] >= 0 else None
    except (AttributeError, TypeError, ValueError):
        return None


def _history(head: dict[str, Any], events: bytes, first: int) -> PackedHistory:
    return PackedHistory(
        head["workflowId"],
        head["runId"],
        head["type"],
        datetime.fromisoformat(head["startedAt"]),
        datetime.fromisoformat(head["closedAt"]),
        events,
        first,
    )
