"""What a load is asked for and what it answers: one JSON object each way, and one file of prebuilt requests."""

from collections.abc import Iterable
from pathlib import Path
from struct import Struct as Packing
from typing import BinaryIO, NamedTuple

import msgspec

_LENGTH = Packing("<I")
_ENTRY = Packing("<ddH")
CLIENT_LIMIT = 0.9  # share of one core from which the client itself may have been the bottleneck


class LoadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bounded load on one server: it ends with its time or its requests, whichever comes first.

    `rate` 0 is a closed loop: every connection sends its next request when it has the answer. Otherwise requests are
    due at `rate` per second, and latency is measured from the instant a request was due, not from when a connection
    became free. The first `warmup_s` seconds are checked like the rest but left out of rate and latency.
    """

    ports: list[int]  # of one host; connections are dealt to them in turn
    requests: str  # path of a file written by `write_requests`
    connections: int
    duration_s: float
    warmup_s: float = 0.0
    drain_s: float = 10.0  # how long answers are waited for once nothing more is sent
    rate: float = 0.0
    good: str = "201/confirmed"  # the answer that counts, as `counts` names it
    host: str = "127.0.0.1"
    timeline: str = ""  # path for the instant of every good answer, float64 of the monotonic clock
    journal: str = ""  # path for what became of every request, as `read_journal` reads it


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class LoadResult(msgspec.Struct, frozen=True):
    """What happened, with every request accounted for: sent = answered + unanswered."""

    connections: int
    sent: int
    answered: int
    unanswered: int  # the connection broke or the drain ran out
    good: int
    counts: dict[str, int]  # by `status/word`: the word is the body's `code`, else its `status`, else nothing
    distinct_receipts: int
    distinct_submissions: int
    distinct_tokens: int
    samples: list[str]  # bodies of the first good answers
    window_s: float
    good_in_window: int
    rate: float  # good answers per second of the window
    latency_ms: Latency  # of good answers in the window
    per_second: list[int]  # good answers in each second of the window: shows a run that was disturbed
    client_cpu: float  # cores that this client used while the clock ran
    client_us: float  # its CPU microseconds per answer
    client_was_bottleneck: bool
    exhausted: bool  # the requests ran out before the time did


def write_requests(path: Path, requests: Iterable[bytes]) -> int:
    """Write whole HTTP/1.1 requests, each behind its length; return how many."""
    count = 0
    with path.open("wb") as out:
        for request in requests:
            out.write(_LENGTH.pack(len(request)))
            out.write(request)
            count += 1
    return count


def read_requests(path: Path) -> list[bytes]:
    """Read what `write_requests` wrote."""
    with path.open("rb") as source:
        return list(_each(source))


def _each(source: BinaryIO) -> Iterable[bytes]:
    while head := source.read(_LENGTH.size):
        yield source.read(_LENGTH.unpack(head)[0])


class Entry(NamedTuple):
    """What became of one request: instants of the monotonic clock, and the status, 0 where no answer came."""

    due: float
    answered: float
    status: int


def write_journal(path: Path, entries: Iterable[Entry]) -> None:
    """Write one entry per request, in the order of the requests."""
    path.write_bytes(b"".join(_ENTRY.pack(*entry) for entry in entries))


def read_journal(path: Path) -> list[Entry]:
    """Read what `write_journal` wrote."""
    return [Entry(*values) for values in _ENTRY.iter_unpack(path.read_bytes())]


def percentile(ordered: list[float], share: float) -> float:
    """Return the nearest-rank percentile of ascending values; 0.0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
