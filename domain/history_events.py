"""How far a serialized history goes, read without Temporal's own code: as much of protobuf as that takes.

`temporal.api.history.v1.History` has its events as field 1, and an event its id as field 1 and its type as field 3.
Source: Protocol Buffers, Encoding (tags, varints, lengths); `temporal.api.enums.v1.EventType`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10
_EVENTS = _EVENT_ID = 1
_EVENT_TYPE = 3
# Of an execution: completed, failed, timed out, cancelled, terminated, continued as new
_ENDS = frozenset({2, 3, 4, 21, 27, 28})


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The last event of a history: its id, and whether an execution has none after it."""

    event_id: int
    is_end: bool


def last_event_of(history: bytes) -> LastEvent:
    """Return the last event of a history. Raises ValueError where this is none."""
    last = None
    for number, kind, value in _fields(history):
        if (number, kind) == (_EVENTS, _LENGTH):
            assert isinstance(value, bytes)
            last = _event(value)
    if last is None:
        raise ValueError("not a history with events")
    return last


def _event(content: bytes) -> LastEvent:
    numbers = {number: value for number, kind, value in _fields(content) if kind == _VARINT}
    found = numbers.get(_EVENT_ID)
    if not isinstance(found, int) or not found:
        raise ValueError("an event without an id")
    return LastEvent(found, numbers.get(_EVENT_TYPE) in _ENDS)


def _fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Return number, wire type and value of every field of a message."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, kind, value
            continue
        if kind == _LENGTH:
            length, place = _varint(message, place)
        elif kind in {_FIXED_32, _FIXED_64}:
            length = 4 if kind == _FIXED_32 else 8
        else:
            raise ValueError("not a message of protobuf")
        if place + length > len(message):
            raise ValueError("a message of protobuf that ends too early")
        yield number, kind, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """Return a number and the place behind it."""
    value = 0
    for count in range(_VARINT_BYTES_MAX):
        if place + count >= len(message):
            break
        byte = message[place + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number has no continuation bit
            return value, place + count + 1
    raise ValueError("not a number of protobuf")
