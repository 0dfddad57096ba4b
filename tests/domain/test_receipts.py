"""A receipt is good as it is, and no byte of it can be another; nor can any of what it is made of."""

import json
from dataclasses import replace
from typing import Any

import pytest

from domain.certificates import canonical_json
from domain.checkpoints import key_id
from domain.contracts.voting import SealedVote
from domain.receipts import participations_of, prove_participation, verify_receipt
from domain.recording import participation_leaf
from integrations.keys.signing import is_signed
from tests.log_world import KEYS, ORIGIN, PUBLIC
from tests.receipt_world import entry_of, participations, proved, receipt

NAMES = [
    "a receipt in the one form",
    "signature of the tree head",
    "the entry is in the tree",
    "the log is that of the cell",
    "the entry commits to the batch",
    "the participation is in the batch",
]


def failing(content: bytes) -> list[str]:
    return [check.name for check in verify_receipt(content, KEYS, is_signed) if not check.holds]


def changed(**fields: Any) -> bytes:
    return canonical_json(json.loads(receipt().file) | fields)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 33])
def test_every_participation_of_a_batch_is_shown_to_be_in_it(count: int) -> None:
    for own in range(count):
        checks = verify_receipt(receipt(count, own).file, KEYS, is_signed)
        assert [(check.name, check.holds) for check in checks] == [(name, True) for name in NAMES]


def test_it_is_the_leaf_that_recording_makes_the_root_of() -> None:
    own = participations(3)[1]
    vote = SealedVote(
        survey_id=own.survey_id,
        nullifier=own.nullifier,
        evidence=own.evidence,
        region=own.region,
        sealed_answers=b"sealed",
    )
    assert own.leaf == participation_leaf(vote)


def test_no_byte_of_it_can_be_another() -> None:
    whole = receipt().file
    for place in range(len(whole)):
        for bit in range(8):
            assert failing(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]), (place, bit)


def test_nothing_can_be_cut_off_or_put_behind_it() -> None:
    whole = receipt().file
    for end in range(0, len(whole), 7):
        assert failing(whole[:end]) == NAMES[:1]
    for more in (b" ", b"\n", b"\0", whole):
        assert failing(whole + more) == NAMES[:1]


def test_what_differs_is_named() -> None:
    whole, other = json.loads(receipt().file), json.loads(receipt(own=3).file)
    assert failing(changed(participation=other["participation"])) == NAMES[5:]
    assert failing(changed(path=other["path"])) == NAMES[5:]
    assert failing(changed(index=other["index"])) == NAMES[5:]
    assert failing(changed(size=whole["size"] + 1)) == NAMES[4:5]
    assert failing(changed(batchRoot=bytes(32).hex())) == NAMES[4:]
    assert failing(changed(cell="us")) == NAMES[3:4]
    assert failing(changed(entry=whole["entry"] | {"kind": "export.asked"})) == [NAMES[2], NAMES[4]]


def test_a_root_that_was_made_up_is_in_no_entry() -> None:
    """Whoever has no place in the batch can make a tree of his own, and an entry; the log has neither."""
    batch = participations(4)
    lying = prove_participation("eu", batch[3], batch, proved(entry_of(batch)))
    honest = proved(entry_of(batch[:3]))
    assert failing(replace(lying, entry_proof=honest.proof).file) == NAMES[2:3]
    assert failing(replace(lying, entry=honest.entry, entry_proof=honest.proof).file) == NAMES[4:5]


def test_an_entry_of_another_kind_commits_to_nothing() -> None:
    batch = participations(2)
    fault = json.loads(entry_of(batch)) | {"kind": "fault.vote_for_sealed_survey"}
    found = replace(
        prove_participation("eu", batch[0], batch, proved(entry_of(batch))),
        entry=canonical_json(fault),
        entry_proof=proved(canonical_json(fault)).proof,
    )
    assert failing(found.file) == NAMES[4:5]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {("comitia/test/us", key_id("comitia/test/us", PUBLIC)): PUBLIC},
        {(ORIGIN, key_id(ORIGIN, PUBLIC)): b"\1" * 32},
    ],
)
def test_a_key_that_is_not_the_logs_checks_nothing(keys: dict[tuple[str, bytes], bytes]) -> None:
    checks = verify_receipt(receipt().file, keys, is_signed)
    assert [check.holds for check in checks] == [True, False]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 9999, changed(format="comitia-receipt/2"), changed(more=1)]
)
def test_whatever_is_no_receipt_fails_by_name(content: bytes) -> None:
    assert failing(content) == NAMES[:1]


def test_it_is_not_made_of_other_participations_than_the_entry_commits_to() -> None:
    batch = participations(4)
    assert participations_of(entry_of(batch)) == 4
    for others in (batch[:3], [*batch, batch[0]], [*batch[:3], replace(batch[3], region="south")]):
        with pytest.raises(ValueError, match="not the participations of this batch"):
            prove_participation("eu", batch[0], others, proved(entry_of(batch)))
    with pytest.raises(ValueError, match="not the participations of this batch"):
        prove_participation("eu", replace(batch[0], nullifier=bytes(32)[:31] + b"x"), batch, proved(entry_of(batch)))
    with pytest.raises(ValueError, match="not the entry of a batch"):
        participations_of(canonical_json({"kind": "export.asked", "body": {}}))


def test_it_says_nothing_of_any_ballot() -> None:
    document = json.loads(receipt().file)
    assert document.keys() == {
        "format", "cell", "participation", "index", "size", "path", "batchRoot", "entry", "entryProof",
    }  # fmt: skip
    assert document["participation"].keys() == {"survey", "nullifier", "evidence", "region"}
