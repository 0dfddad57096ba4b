"""Submission ids: they name a vote's place in its batch to its own voter, and to nobody else."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from domain.ids import BatchId

_GATEWAY_BYTES = 16
_NUMBER_BYTES = 8
_INDEX_BYTES = 2
_MAC_BYTES = 16
_PLACE_BYTES = _GATEWAY_BYTES + _NUMBER_BYTES + _INDEX_BYTES
_TEXT_LENGTH = (_PLACE_BYTES + _MAC_BYTES) * 4 // 3


@dataclass(frozen=True, slots=True)
class Submission:
    """A vote's place: the batch, and the index in it."""

    batch: BatchId
    index: int


class SubmissionIds:
    """Makes and reads submission ids under a key of the cell.

    An id is batch id, index and a MAC over both and the nullifier, 56 characters of base64url: so the execution of a
    submission is found without any table that joins a voter to a ballot, and only with the nullifier of that voter.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """`key` is 32 bytes, the same in every process of the cell."""
        self._key = key

    def make(self, submission: Submission, nullifier: bytes) -> str:
        """Return the id of a submission for the voter behind a nullifier."""
        batch = submission.batch
        place = (
            batch.gateway_id
            + batch.number.to_bytes(_NUMBER_BYTES, "big")
            + submission.index.to_bytes(_INDEX_BYTES, "big")
        )
        return urlsafe_b64encode(place + self._mac(place, nullifier)).decode("ascii")

    def read(self, submission_id: str, nullifier: bytes) -> Submission | None:
        """Return the submission that an id names, or None where it is no id of this voter's."""
        content = _content(submission_id)
        place, mac = content[:_PLACE_BYTES], content[_PLACE_BYTES:]
        if not content or not hmac.compare_digest(mac, self._mac(place, nullifier)):
            return None
        return _submission(place)

    def _mac(self, place: bytes, nullifier: bytes) -> bytes:
        return hmac.digest(self._key, b"comitia/submission/1" + place + nullifier, "sha256")[:_MAC_BYTES]


def claimed_place(submission_id: str) -> Submission | None:
    """Return the place that an id claims, or None where it is no such id; only `SubmissionIds.read` says it is true."""
    content = _content(submission_id)
    return _submission(content[:_PLACE_BYTES]) if content else None


def _content(submission_id: str) -> bytes:
    if len(submission_id) != _TEXT_LENGTH or not submission_id.isascii():
        return b""
    try:
        return urlsafe_b64decode(submission_id)
    except ValueError:
        return b""


def _submission(place: bytes) -> Submission:
    number = int.from_bytes(place[_GATEWAY_BYTES : _GATEWAY_BYTES + _NUMBER_BYTES], "big")
    batch = BatchId(place[:_GATEWAY_BYTES], number)
    return Submission(batch, int.from_bytes(place[-_INDEX_BYTES:], "big"))
