"""Payloads of whole messages of Temporal's, wherever in them they are."""

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import Final

from google.protobuf.message import Message
from temporalio.api.common.v1 import Header, Payload, SearchAttributes
from temporalio.api.history.v1 import HistoryEvent, MarkerRecordedEventAttributes
from temporalio.converter import PayloadCodec

from domain.errors import DomainError, ErrorCode
from integrations.temporal.codec import ENCODING

_NEVER_ENCRYPTED: Final = (Header, SearchAttributes)  # trace ids; codes that visibility is asked for
_OWN_DETAILS: Final = {"data", "patch-data"}  # of the SDK's own markers: types, attempts and instants; ids of patches


def payloads_in(message: Message) -> Iterator[Payload]:
    """Return every payload in a message: inputs, results, details, headers, the text of failures."""
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in _messages(value):
            yield from payloads_in(each)


async def open_what_is_left(messages: Sequence[Message], codec: PayloadCodec) -> bool:
    """Decode every payload in its place; return False where its key is destroyed, and what is sealed says nothing.

    Raises:
        DomainError: what the codec raises otherwise.
    """
    try:
        await open_payloads(messages, codec)
    except DomainError as error:
        if error.code is not ErrorCode.KEY_DESTROYED:
            raise
        return False
    return True


async def open_payloads(messages: Sequence[Message], codec: PayloadCodec) -> None:
    """Decode every payload of these messages in its place.

    Raises:
        DomainError: what the codec raises, `key_destroyed` for instance; some may be decoded by then.
    """
    found = [payload for message in messages for payload in payloads_in(message)]
    for payload, decoded in zip(found, await codec.decode(found), strict=True):
        if decoded is not payload:
            payload.CopyFrom(decoded)


def has_readable(event: HistoryEvent) -> bool:
    """Tell whether an event has a payload of ours that is not encrypted."""
    return any(payload.metadata.get("encoding") != ENCODING for payload in _ours(event))


def _ours(message: Message) -> Iterator[Payload]:
    if isinstance(message, Payload):
        yield message
    elif isinstance(message, MarkerRecordedEventAttributes):
        yield from _of_marker(message)
    elif not isinstance(message, _NEVER_ENCRYPTED):
        for field, value in message.ListFields():
            if field.message_type is not None:
                for each in _messages(value):
                    yield from _ours(each)


def _of_marker(marker: MarkerRecordedEventAttributes) -> Iterator[Payload]:
    of_sdk = marker.marker_name.startswith("core_")
    for name, details in marker.details.items():
        if not (of_sdk and name in _OWN_DETAILS):
            yield from details.payloads
    if marker.HasField("failure"):
        yield from _ours(marker.failure)


def _messages(value: object) -> Iterable[Message]:
    if isinstance(value, Message):
        return (value,)
    assert isinstance(value, Iterable)
    several = value.values() if isinstance(value, MutableMapping) else value
    return (each for each in several if isinstance(each, Message))
