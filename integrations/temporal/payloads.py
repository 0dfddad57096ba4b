"""Payloads of whole messages of Temporal's, wherever in them they are."""

from collections.abc import Iterable, Iterator, MutableMapping, Sequence

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec


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


async def open_payloads(messages: Sequence[Message], codec: PayloadCodec) -> None:
    """Decode every payload of these messages in its place.

    Raises:
        DomainError: what the codec raises, `key_destroyed` for instance; some may be decoded by then.
    """
    found = [payload for message in messages for payload in payloads_in(message)]
    for payload, decoded in zip(found, await codec.decode(found), strict=True):
        if decoded is not payload:
            payload.CopyFrom(decoded)


def _messages(value: object) -> Iterable[Message]:
    if isinstance(value, Message):
        return (value,)
    assert isinstance(value, Iterable)
    several = value.values() if isinstance(value, MutableMapping) else value
    return (each for each in several if isinstance(each, Message))
