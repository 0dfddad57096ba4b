"""A certificate that anything was done to is not good, and the check that says so is named."""

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from nacl.signing import SigningKey

from domain.ballots import OpenedBallot
from domain.certificates import ballot_line, certificate_of, envelope, signed_bytes
from domain.contracts.certification import (
    BallotFile,
    CellRecount,
    CertifySurveyInput,
    PublishedBallots,
    ReconciledSurvey,
    SealedCell,
)
from domain.contracts.exports import StoredObject
from domain.contracts.voting import RegionCounts
from domain.merkle import root
from domain.verification import (
    BallotLines,
    UnreadableError,
    read_certificate,
    read_keys,
    verify_certificate,
)
from integrations.keys.signing import is_signed
from tests.voting_world import small_survey

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
KEY = SigningKey(bytes(range(32)))
KEY_ID = "certificate/2026-01-02/1"
KEYS = {KEY_ID: bytes(KEY.verify_key)}
LINES = [
    ballot_line(OpenedBallot(region, (("1", (choice,), "a text that stays sealed"), ("2", ("4",), ""))))
    for region, choice in (("ward-1", "1"), ("ward-1", "2"), ("ward-2", "1"))
]
PARTS = (LINES[:2], LINES[2:])

Json = dict[str, Any]


def document() -> Json:
    survey = small_survey(regions=("ward-1", "ward-2"))
    cells = {
        "eu": (RegionCounts(region="ward-1", ballots=2, options={"1": 1, "2": 1, "4": 2}),),
        "us": (RegionCounts(region="ward-2", ballots=1, options={"1": 1, "4": 1}),),
    }
    recounts = tuple(
        CellRecount(
            cell=cell,
            participations=regions[0].ballots,
            ballots=regions[0].ballots,
            batches=1,
            participations_root=sha256(cell.encode()).digest(),
            ballots_root=bytes(32),
            batches_root=bytes(32),
            regions=regions,
        )
        for cell, regions in cells.items()
    )
    files = tuple(
        BallotFile(
            stored=StoredObject(name="x", size_bytes=len(b"".join(part)), sha256=sha256(b"".join(part)).digest()),
            ballots=len(part),
        )
        for part in PARTS
    )
    return certificate_of(
        CertifySurveyInput(
            survey=survey,
            sealed=tuple(SealedCell(cell=cell, closed_at=AT, sealed_at=AT) for cell in cells),
            recounts=recounts,
            published=PublishedBallots(files=files, ballots=3, root=root(LINES)),
            reconciled=ReconciledSurvey(workflow_id="reconcile-survey/s/1", at=AT),
            certified_at=AT,
        ),
        build="tests",
    )


def signed(certificate: Json) -> Json:
    content = envelope(certificate, KEY_ID, KEY.sign(signed_bytes(certificate)).signature)
    return read_certificate(content)


def failing(found: Json, parts: tuple[list[bytes], ...] = PARTS, keys: dict[str, bytes] | None = None) -> set[str]:
    files = [BallotLines(f"part {n}", part) for n, part in enumerate(parts, start=1)]
    checks = verify_certificate(found, KEYS if keys is None else keys, files, is_signed)
    assert len(checks) > 10
    return {check.name for check in checks if not check.holds}


def test_a_certificate_holds_with_its_files_in_any_order() -> None:
    assert failing(signed(document())) == set()
    assert failing(signed(document()), PARTS[::-1]) == set()


def test_texts_of_answers_are_not_published() -> None:
    assert b"sealed" not in b"".join(LINES)


def changed(change: Callable[[Json], None]) -> Json:
    """Return a certificate that was changed and signed again by its own key: only what it says can tell."""
    certificate = copy.deepcopy(document())
    change(certificate)
    return signed(certificate)


def test_anything_changed_afterwards_breaks_the_signature_and_the_id() -> None:
    found = signed(document())
    found["certificate"]["survey"]["title"] = "Another"
    assert failing(found) == {"signature", "id"}


def test_another_key_or_a_broken_signature_is_noticed() -> None:
    found = signed(document())
    assert failing(found, keys={}) == {"signature"}
    assert failing(found, keys={KEY_ID: bytes(SigningKey(bytes(32)).verify_key)}) == {"signature"}
    right = found["signature"]["value"]
    for value in ("", "zz", "00" * 64, right.upper(), f" {right}", f"{right[:2]}\n{right[2:]}"):
        assert failing({**found, "signature": {**found["signature"], "value": value}}) == {"signature"}


def test_keys_and_roots_are_spelled_in_one_way() -> None:
    def louder(certificate: Json) -> None:
        certificate["cells"][0]["participationsRoot"] = certificate["cells"][0]["participationsRoot"].upper()

    assert failing(changed(louder)) == {"ledger root"}
    public = KEYS[KEY_ID].hex()
    assert read_keys(json.dumps({"keys": [{"keyId": KEY_ID, "publicKey": public}]}).encode()) == KEYS
    for other in (public.upper(), f"{public[:2]} {public[2:]}"):
        with pytest.raises(UnreadableError):
            read_keys(json.dumps({"keys": [{"keyId": KEY_ID, "publicKey": other}]}).encode())


def test_totals_that_the_ballots_do_not_give_are_noticed_whoever_signed_them() -> None:
    def one_more(certificate: Json) -> None:
        certificate["totals"]["options"]["1"] += 1
        certificate["totals"]["regions"]["ward-1"]["options"]["1"] += 1

    assert failing(changed(one_more)) == {"totals recomputed"}


@pytest.mark.parametrize("name", ["participations", "ballots", "batches"])
def test_a_sum_that_is_not_the_cells_is_noticed(name: str) -> None:
    def one_more(certificate: Json) -> None:
        certificate[name] += 1

    assert f"{name} of cells" in failing(changed(one_more))


def test_a_root_of_a_cell_that_was_changed_is_noticed() -> None:
    def other(certificate: Json) -> None:
        certificate["cells"][0]["ballotsRoot"] = "11" * 32

    assert failing(changed(other)) == {"ledger root"}


def test_a_difference_that_was_signed_away_is_noticed() -> None:
    def differing(certificate: Json) -> None:
        certificate["recount"]["differences"] = 1

    assert failing(changed(differing)) == {"no differences"}


@pytest.mark.parametrize("parts", [(LINES[:2],), (), (LINES[:2], [*LINES[2:], LINES[0]]), (LINES[:2], LINES[:1])])
def test_ballots_that_are_missing_doubled_or_exchanged_are_noticed(parts: tuple[list[bytes], ...]) -> None:
    assert {"files complete", "ballots counted", "root of published ballots", "totals recomputed"} <= failing(
        signed(document()), parts
    )


def test_two_lines_that_changed_places_are_noticed() -> None:
    assert "root of published ballots" in failing(signed(document()), (LINES[1::-1], LINES[2:]))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"certificate": {"format": "x"}}', b"\xff"])
def test_what_is_no_certificate_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_certificate(content)
    with pytest.raises(UnreadableError):
        read_keys(content)


@pytest.mark.parametrize("part", ["cells", "totals", "publishedBallots", "survey", "ledgerRoot"])
def test_a_certificate_with_a_part_missing_is_not_checked(part: str) -> None:
    found = json.loads(json.dumps(signed(document())))
    del found["certificate"][part]
    with pytest.raises(UnreadableError):
        failing(found)


def beside(envelope: Json, name: str, value: str) -> bytes:
    """Return the file with one more member in front of the others of the same object."""
    return json.dumps(envelope).replace("{", f'{{"{name}": {value}, ', 1).encode()


@pytest.mark.parametrize(
    "content",
    [
        beside(signed(document()), "certificate", '{"totals": "another reader takes the first"}'),
        json.dumps(signed(document())).replace('"totals": {', '"totals": {"ballots": 9, ').encode(),
        beside(signed(document()), "totals", '{"ballots": 9}'),
        json.dumps(signed(document())).replace("Ed25519", "none").encode(),
        b'{"certificate": ' + b"[" * 100_000,
    ],
    ids=["certificate twice", "a member twice", "beside what is signed", "another algorithm", "deep"],
)
def test_a_file_that_two_readers_read_differently_is_no_certificate(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_certificate(content)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "\ud800", [], {}, None, "many"], ids=repr)
@pytest.mark.parametrize("name", ["ballots", "totals", "cells", "ledgerRoot", "certifiedAt"])
def test_whatever_is_written_in_a_certificate_ends_in_checks_or_in_words(name: str, value: object) -> None:
    found = signed(document())
    found["certificate"][name] = value
    with suppress(UnreadableError):
        assert "signature" in failing(found)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"region":"\\ud800","answers":{}}\n', b'{"region":[],"answers":{}}\n', b"7\n"]
)
def test_a_line_that_is_no_ballot_is_noticed_whoever_signed_its_digest(line: bytes) -> None:
    def with_it(certificate: Json) -> None:
        file = {"sha256": sha256(line).hexdigest(), "sizeBytes": len(line), "ballots": 1}
        certificate["publishedBallots"]["files"] = [file]

    with suppress(UnreadableError):
        assert "ballots well formed" in failing(changed(with_it), ([line],))
