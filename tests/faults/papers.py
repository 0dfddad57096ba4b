"""What ballots say, read without our own code: a mistake that packing and unpacking share must not hide itself.

The forms are written out here once more, as `docs/life-of-a-vote.md` and the published files have them: a key by HKDF,
AES-256-GCM behind a key id and a nonce, two bytes of length, then MessagePack; published, a line of JSON each.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Paper = tuple[str, frozenset[tuple[str, str]]]  # the region, and (question, option) of each choice
Papers = Counter[Paper]
Sums = Counter[tuple[str, str]]  # (region, option id), and (region, "") for ballots
_HEAD, _NONCE_END, _LENGTH_END = 1, 13, 2


class Opener:
    """Opens the sealed ballots of one survey."""

    def __init__(self, survey_id: str, ballot_key: bytes) -> None:
        derived = HKDF(SHA256(), 32, salt=survey_id.encode(), info=b"comitia/ballot/seal").derive(ballot_key)
        self._aead, self._aad = AESGCM(derived), survey_id.encode()

    def open(self, sealed: bytes) -> Paper:
        """Return what a ballot says. Raises ValueError where it cannot be opened or names an option twice."""
        try:
            packed = self._aead.decrypt(sealed[_HEAD:_NONCE_END], sealed[_NONCE_END:], self._aad)
            length = int.from_bytes(packed[:_LENGTH_END], "big")
            region, answers = msgspec.msgpack.decode(packed[_LENGTH_END : _LENGTH_END + length])
            return _paper(region, ((question, options) for question, options, _ in answers))
        except (InvalidTag, msgspec.DecodeError, TypeError) as error:
            raise ValueError("not a ballot of this survey") from error


def published_papers(lines: Iterable[bytes]) -> Papers:
    """Return what published ballots say. Raises ValueError where a line is none."""
    found: Papers = Counter()
    for line in lines:
        ballot = json.loads(line)
        found[_paper(ballot["region"], ballot["answers"].items())] += 1
    return found


def sums_of(papers: Mapping[Paper, int]) -> Sums:
    """Return what papers add up to."""
    sums: Sums = Counter()
    for (region, chosen), count in papers.items():
        sums[region, ""] += count
        for _, option in chosen:
            sums[region, option] += count
    return sums


def certified_sums(totals: Mapping[str, Any]) -> Sums:
    """Return the totals of a certificate."""
    sums: Sums = Counter()
    for region, found in totals["regions"].items():
        sums[region, ""] += found["ballots"]
        sums.update({(region, option): votes for option, votes in found["options"].items()})
    return sums


def apart(one: Mapping[Any, int], other: Mapping[Any, int]) -> int:
    """Return by how much two counts differ, summed over everything that either has."""
    return sum(abs(one.get(key, 0) - other.get(key, 0)) for key in {*one, *other})


def _paper(region: str, answers: Iterable[tuple[str, Iterable[str]]]) -> Paper:
    chosen = [(question, option) for question, options in answers for option in options]
    if len(set(chosen)) != len(chosen):
        raise ValueError("an option is named twice")
    return region, frozenset(chosen)
