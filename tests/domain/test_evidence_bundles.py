"""A bundle is good as it is; what of it is changed, left out or put in another's place fails by name."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from nacl.signing import SigningKey
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import History, HistoryEvent

from domain.audit import AuditEntry, AuditKind
from domain.bundle_verification import BundleKeys, read_bundle_keys, verify_bundle
from domain.cases import vote_at
from domain.certificates import canonical_json
from domain.evidence_bundles import (
    DECISION,
    MANIFEST,
    RECEIPT,
    SIGNATURE,
    TIMELINE,
    CaseEvidence,
    RecordedRun,
    bundle_of,
    digest_of,
    ended_registration,
)
from domain.history_events import LastEvent, last_event_of
from domain.stored_zip import read_zip, write_zip
from domain.verification import UnreadableError
from integrations.keys.signing import is_signed
from integrations.temporal.closed_histories import is_end
from tests.bundle_world import (
    CASE,
    KEY,
    KEY_ID,
    PUBLIC_KEYS,
    EntryBefore,
    address,
    decided,
    ended,
    evidence,
    judged,
    keys,
    proved,
    record,
    signed,
)
from tests.log_world import KEYS
from tests.receipt_world import entry_of, participations, receipt
from tests.receipt_world import proved as receipt_proved

NAMES = [
    "an archive in the one form",
    "a manifest in the one form",
    "signature of the manifest",
    "files as the manifest lists them",
    "digests of the files",
    "every file has its part",
    "signatures of the tree heads",
    "entries are in the log of the cell",
    "entries are of the case",
    "the decision is the one that was sealed",
    "what is open is said to be",
    "the participation is the one of the receipt",
]


def failing(content: bytes, given: BundleKeys | None = None) -> list[str]:
    return [check.name for check in verify_bundle(content, given or keys(), is_signed) if not check.holds]


def forged(made: Any, **manifest: Any) -> bytes:
    """Return a bundle that is signed over another manifest: by whoever has the key, and lies."""
    unsigned = bundle_of(made)
    form = manifest.get("format", unsigned.format)
    lying = replace(unsigned, format=form, manifest=canonical_json(json.loads(unsigned.manifest) | manifest))
    return lying.signed(KEY_ID, KEY.sign(lying.message).signature)


def test_every_check_of_a_good_bundle_holds_and_is_numbered_in_this_order() -> None:
    checks = verify_bundle(signed(evidence()), keys(), is_signed)
    assert [(check.name, check.holds) for check in checks] == [(name, True) for name in NAMES]
    assert [name for name, _ in read_zip(signed(evidence()))] == [
        MANIFEST,
        SIGNATURE,
        DECISION,
        TIMELINE,
        "histories/1.history",
        "entries/1.json",
        "entries/1.tlog-proof",
        "entries/4.json",
        "entries/4.tlog-proof",
    ]


def test_the_same_case_gives_the_same_bytes() -> None:
    assert signed(evidence()) == signed(evidence())


def test_no_byte_of_it_can_be_another() -> None:
    whole, chance, given = signed(evidence()), random.Random(7), keys()
    for place in range(len(whole)):
        other = whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :]
        assert failing(other, given), place


def mended(files: list[tuple[str, bytes]], name: str, content: bytes) -> bytes:
    """Return a bundle of these files, with another content of one of them and every sum of the archive made anew."""
    return write_zip([(n, content if n == name else kept) for n, kept in files])


def test_no_byte_of_a_file_can_be_another_though_its_sum_is_mended() -> None:
    """The archive's own sums help nobody: whoever can write an archive can write those as well."""
    files, chance, given = read_zip(signed(evidence())), random.Random(7), keys()
    for name, content in files:
        is_signed_for = name not in {MANIFEST, SIGNATURE}  # its digest is: one bit of each byte says enough
        for place in range(len(content)):
            for bit in [chance.randrange(8)] if is_signed_for else range(8):
                other = content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
                found = failing(mended(files, name, other), given)
                assert found, (name, place, bit)
                assert found[0] in NAMES[1:5], (name, place, bit)


def test_a_signature_is_spelled_in_one_way() -> None:
    files = read_zip(signed(evidence()))
    told = json.loads(dict(files)[SIGNATURE])
    value = told["signature"]
    for other in (value.upper(), value[:-1] + value[-1].upper() + " ", f"{value[:2]} {value[2:]}", value + "00"):
        assert failing(mended(files, SIGNATURE, canonical_json(told | {"signature": other}))) == NAMES[2:3]


def test_nothing_can_be_cut_off_or_put_behind_it() -> None:
    whole = signed(evidence())
    for end in range(0, len(whole), 11):
        assert failing(whole[:end]) == NAMES[:1]
    for more in (b"\0", b"PK", whole):
        assert failing(whole + more) == NAMES[:1]


def test_a_file_can_be_neither_left_out_nor_added_nor_moved() -> None:
    files = read_zip(signed(evidence()))
    for n in range(2, len(files)):
        assert failing(write_zip(files[:n] + files[n + 1 :])) == NAMES[3:4]
    assert failing(write_zip([*files, ("more.json", b"{}")])) == NAMES[3:4]
    assert failing(write_zip([*files[:2], files[3], files[2], *files[4:]])) == NAMES[3:4]
    assert failing(write_zip(files[1:])) == NAMES[1:2]
    assert failing(write_zip(files[:1])) == NAMES[2:3]


def test_another_key_signs_nothing() -> None:
    other = SigningKey(bytes(32))
    assert failing(signed(evidence(), other)) == NAMES[2:3]
    assert failing(signed(evidence(), other, "evidence-bundle/2026-01-01/2")) == NAMES[2:3]
    assert failing(signed(evidence()), BundleKeys({}, KEYS)) == NAMES[2:3]
    assert failing(signed(evidence()), BundleKeys(keys().bundles, {})) == NAMES[6:7]


@pytest.mark.parametrize(
    ("manifest", "check"),
    [
        ({"case": f"a_eu_{'b' * 26}"}, 8),
        ({"cell": "us"}, 6),
        ({"format": "comitia-evidence/2"}, 1),
        ({"kind": "survey"}, 1),
        ({"more": 1}, 1),
        ({"histories": []}, 5),
        ({"entries": []}, 5),
    ],
)
def test_whoever_has_the_key_and_lies_is_found_out_by_the_rest(manifest: dict[str, Any], check: int) -> None:
    assert failing(forged(evidence(), **manifest)) == NAMES[check : check + 1]


def test_entries_are_proved_each_and_of_this_case() -> None:
    one, other = proved(decided(), ended())
    assert failing(signed(evidence(entries=[other, one]))) == NAMES[7:8]
    assert failing(signed(evidence(entries=[replace(one, entry=other.entry), other]))) == NAMES[7:8]
    assert failing(signed(evidence(entries=proved(decided(), origin="comitia/test/us")))) == NAMES[6:7]
    strange = ended(f"a_eu_{'b' * 26}")
    assert failing(signed(evidence(entries=proved(decided(), strange)))) == NAMES[8:9]


def test_a_decision_is_what_its_entry_was_written_of() -> None:
    for path, value in (
        ("verdict", {"score_permille": 13}),
        ("signals", {"my_logins": 4}),
        ("verdict", {"reasons": ["x"]}),
    ):
        other = judged() | {path: judged()[path] | value}
        assert failing(signed(evidence(decision=record(judged=other)))) == NAMES[9:10]
    assert failing(signed(evidence(entries=[]))) == NAMES[9:10]
    assert failing(signed(evidence(entries=proved(ended())))) == NAMES[9:10]
    facts = decided().facts
    assert (
        failing(signed(evidence(entries=proved(decided(facts={**facts, "policyVersion": 2}), ended())))) == NAMES[9:10]
    )
    assert failing(signed(evidence(decision=None))) == []  # after a year and a month the entries are what there is
    assert failing(signed(evidence(decision={"judged": 1}))) == NAMES[9:10]


@pytest.mark.parametrize(
    "other",
    [
        {"method": "passkey"},
        {"provider": "another"},
        {"factors": ["totp"]},
        {"outcome": "allowed"},
        {"outcome": None},
        {"factor": "mail_code"},
        {"factor": None},
    ],
)
def test_a_login_was_proven_and_ended_as_its_entries_say(other: dict[str, Any]) -> None:
    assert failing(signed(evidence(decision=record(**other)))) == NAMES[9:10]


@pytest.mark.parametrize(
    ("decision", "factors", "outcome"),
    [
        ("ALLOW", [], "allowed"),
        ("DENY", ["totp"], "denied"),
        ("CHALLENGE", [], "denied"),
        ("CHALLENGE", ["totp"], None),
    ],
)
def test_a_login_without_an_entry_of_its_end_ended_as_it_was_decided(
    decision: str, factors: list[str], outcome: str | None
) -> None:
    found = judged()
    found["verdict"]["decision"] = decision
    facts = {**decided().facts, "factors": ",".join(factors)}
    entries = proved(decided(after=digest_of(found), facts=facts))
    whole = record(judged=found, factors=factors, outcome=outcome, factor=None)
    assert failing(signed(evidence(decision=whole, entries=entries))) == []
    for other in ({"outcome": "stepped_up"}, {"outcome": "expired"}, {"factor": "totp"}):
        assert failing(signed(evidence(decision=whole | other, entries=entries))) == NAMES[9:10]


def test_what_a_release_before_wrote_binds_less_and_says_so() -> None:
    login = [
        EntryBefore(AuditKind.LOGIN_DECIDED, decided().body | {"facts": {"policyVersion": 1}}),
        EntryBefore(AuditKind.LOGIN_ENDED, {name: told for name, told in ended().body.items() if name != "facts"}),
    ]
    checks = verify_bundle(signed(evidence(entries=proved(*login))), keys(), is_signed)
    assert all(check.holds for check in checks)
    assert checks[9].detail == (
        "the entry login.decided says the same, and nothing of method, provider and factors: a release before wrote it;"
        " the entry login.ended says the same, and nothing of the factor: a release before wrote it"
    )
    assert failing(signed(evidence(decision=record(outcome="allowed"), entries=proved(*login)))) == NAMES[9:10]
    told = {"actor": "process:tests", "subject": REGISTRATION, "outcome": "active", "facts": {"caseNo": 1}}
    entries = proved(EntryBefore(AuditKind.REGISTRATION_ENDED, told))
    made = evidence(address=address(REGISTRATION), decision=registration(), entries=entries)
    checks = verify_bundle(signed(made), keys(), is_signed)
    assert all(check.holds for check in checks)
    assert checks[9].detail == (
        "the entry registration.ended says the same of stage and case, and nothing of the rest:"
        " a release before wrote it"
    )
    for other in ({"stage": "refused"}, {"caseNo": 2}):
        assert failing(signed(replace(made, decision=registration(**other)))) == NAMES[9:10]


REGISTRATION, DELETION, RECOVERY = (f"{kind}_eu_{'a' * 26}" for kind in "rdq")


def registration(**fields: Any) -> dict[str, Any]:
    """Return the record of a registration that was approved."""
    return {
        "stage": "active",
        "reasons": [],
        "staffReasons": ["vpn"],
        "caseNo": 1,
        "policyVersion": 3,
        "cases": [{"caseNo": 1, "provider": "sumsub", "reference": "60c9e2"}],
        "beganAt": "2026-01-02T00:00:00.000000Z",
        "changedAt": "2026-01-03T00:00:00.000000Z",
        **fields,
    }


def end_of(record: dict[str, Any]) -> AuditEntry:
    """Return the entry of a registration's end."""
    return AuditEntry(
        AuditKind.REGISTRATION_ENDED,
        "process:register-voter",
        REGISTRATION,
        outcome=record["stage"],
        after=digest_of(ended_registration(REGISTRATION, record)),
        facts={"caseNo": record["caseNo"]},
    )


@pytest.mark.parametrize(
    ("other", "good"),
    [
        ({}, True),
        ({"added": "by a later release"}, True),
        ({"stage": "rejected"}, False),
        ({"caseNo": 2}, False),
        ({"policyVersion": 2}, False),
        ({"reasons": ["forgery"]}, False),
        ({"staffReasons": []}, False),
        ({"cases": []}, False),
        ({"cases": [{"caseNo": 1, "provider": "letters", "reference": "60c9e2"}]}, False),
        ({"cases": [{"caseNo": 1, "provider": "sumsub", "reference": "60c9e3"}]}, False),
        ({"beganAt": "2026-01-01T00:00:00.000000Z"}, False),
        ({"changedAt": "2026-01-03T00:00:00.000001Z"}, False),
    ],
)
def test_the_end_of_a_registration_is_what_its_entry_was_written_of(other: dict[str, Any], *, good: bool) -> None:
    entries = proved(end_of(registration()))
    made = evidence(address=address(REGISTRATION), decision=registration(**other), entries=entries)
    assert failing(signed(made)) == ([] if good else NAMES[9:10])


@pytest.mark.parametrize(
    ("case", "record", "entry", "good"),
    [
        (REGISTRATION, {"stage": "active", "caseNo": 1}, None, False),
        (REGISTRATION, {"stage": "proofing", "caseNo": 1}, None, True),  # its process was ended by hand
        (
            DELETION,
            {"stage": "completed", "casesErased": 1, "credentialsRemoved": 2},
            ("deletion.completed", "done", {"casesErased": 1, "credentialsRemoved": 2}),
            True,
        ),
        (
            DELETION,
            {"stage": "completed", "casesErased": 0, "credentialsRemoved": 2},
            ("deletion.completed", "done", {"casesErased": 1, "credentialsRemoved": 2}),
            False,
        ),
        (DELETION, {"stage": "completed", "casesErased": 0, "credentialsRemoved": 2}, None, False),
        (RECOVERY, None, ("account.recovered", "done", {"sessionsEnded": 1}), True),
        (RECOVERY, None, None, True),
    ],
)
def test_each_kind_of_case_has_its_entry(case: str, record: Any, entry: Any, *, good: bool) -> None:
    entries = []
    if entry is not None:
        kind, outcome, facts = entry
        entries = proved(AuditEntry(AuditKind(kind), "process:tests", case, outcome=outcome, facts=facts))
    made = evidence(address=address(case), decision=record, entries=entries)
    assert failing(signed(made)) == ([] if good else NAMES[9:10])


@pytest.mark.parametrize(
    ("record", "ends", "good"),
    [
        (("rejected", 1), [("rejected", 1)], True),  # it can still be appealed
        (("proofing", 2), [("rejected", 1)], True),  # it is: another case is open
        (("retry", 2), [("rejected", 1)], True),
        (("active", 2), [("rejected", 1), ("active", 2)], True),
        (("rejected", 1), [("active", 1), ("rejected", 1)], True),  # reversed: the provider took its word back
        (("active", 1), [("rejected", 1), ("active", 2)], False),
        (("rejected", 1), [("rejected", 1), ("active", 2)], False),
        (("active", 1), [("active", 1), ("rejected", 1)], False),
        (("review", 1), [("rejected", 1)], False),  # only another case goes on after an end
        (("proofing", 2), [("rejected", 1), ("active", 2)], False),
    ],
)
def test_of_several_ends_of_a_registration_the_last_one_counts(record: Any, ends: Any, *, good: bool) -> None:
    decision, *ended = (registration(stage=stage, caseNo=case_no) for stage, case_no in (record, *ends))
    made = evidence(address=address(REGISTRATION), decision=decision, entries=proved(*map(end_of, ended)))
    assert failing(signed(made)) == ([] if good else NAMES[9:10])


def test_what_has_no_history_any_more_is_said() -> None:
    run = RecordedRun(f"assess-login/eu/{CASE}", "a run", "AssessLogin", left_out="history_gone")
    whole = signed(evidence(runs=[run]))
    assert failing(whole) == []
    assert json.loads(dict(read_zip(whole))[MANIFEST])["histories"] == [
        {"builds": [], "leftOut": "history_gone", "run": "a run", "type": "AssessLogin", "workflow": run.workflow_id}
    ]


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"{}", write_zip([]), write_zip([(MANIFEST, b"[]")])])
def test_whatever_is_no_bundle_fails_by_name(content: bytes) -> None:
    assert failing(content) in (NAMES[:1], NAMES[1:2])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"keys": []}', b'{"keys": [], "verifierKeys": [1]}', b'{"keys": 1}'])
def test_what_is_no_list_of_keys_checks_nothing(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_bundle_keys(content)
    assert PUBLIC_KEYS.document()["keys"][0]["keyId"] == KEY_ID


def test_a_bundle_of_an_open_case_says_so_and_how_far_it_goes() -> None:
    (run,) = evidence().runs
    made = evidence(runs=[replace(run, events=OPEN_HISTORY, last_event=5)])
    checks = verify_bundle(signed(made), keys(), is_signed)
    assert [check.name for check in checks if not check.holds] == []
    assert checks[10].detail == "open: histories/1.history up to event 5"
    manifest = json.loads(dict(read_zip(signed(made)))[MANIFEST])
    assert (manifest["format"], manifest["state"]) == ("comitia-evidence/2", "open")
    assert signed(made) == signed(made)
    assert failing(forged(made, state="")) == NAMES[1:2]
    assert failing(forged(made, state="over")) == NAMES[10:11]
    assert failing(forged(made, format="comitia-evidence/1")) == NAMES[1:2]
    for events, last in ((OPEN_HISTORY, 6), (b"", 5), (b"\xff", 5)):
        assert failing(signed(evidence(runs=[replace(run, events=events, last_event=last)]))) == NAMES[10:11]
    assert failing(signed(evidence(runs=[replace(run, events=run.events, last_event=2)]))) == NAMES[10:11]
    closed = evidence(runs=[replace(run, events=OPEN_HISTORY)])
    assert failing(signed(closed)) == NAMES[10:11]  # it is said to be over, and has no end
    assert failing(signed(evidence(runs=[replace(run, events=b"")]))) == NAMES[10:11]
    assert failing(forged(closed, format="comitia-evidence/2", state="open")) == NAMES[10:11]


OPEN_HISTORY = History(events=[HistoryEvent(event_id=n) for n in range(1, 6)]).SerializeToString()


def vote(**fields: Any) -> CaseEvidence:
    """Return the evidence of a vote; `fields` take the place of its own."""
    entry = receipt_proved(entry_of(participations(5)))
    record = {"stage": "confirmed", "survey": OWN.survey_id, "region": OWN.region, "batch": f"{'0' * 32}-1"}
    made = {
        "address": vote_at("A" * 56, "eu"),
        "decision": record,
        "runs": [],
        "entries": [entry],
        "receipt": receipt(5, 2).file,
        **fields,
    }
    return CaseEvidence(**made)


OWN = participations(5)[2]


def test_the_bundle_of_a_vote_is_its_receipt_and_the_entry_of_its_batch() -> None:
    checks = verify_bundle(signed(vote()), keys(), is_signed)
    assert [check.name for check in checks if not check.holds] == []
    assert [name for name, _ in read_zip(signed(vote()))] == [
        MANIFEST,
        SIGNATURE,
        DECISION,
        TIMELINE,
        RECEIPT,
        "entries/3.json",
        "entries/3.tlog-proof",
    ]
    record = vote().decision
    assert record is not None
    for other in ({"survey": f"s_{'b' * 16}"}, {"region": "south"}, {"batch": f"{'0' * 32}-2"}):
        assert failing(signed(vote(decision=record | other))) == NAMES[11:12]
    another = receipt_proved(entry_of(participations(5)), index=2)
    assert failing(signed(vote(entries=[another]))) == []  # the same entry at another place of another log
    assert failing(signed(vote(entries=[receipt_proved(entry_of(participations(4)))]))) == NAMES[11:12]
    assert failing(signed(vote(receipt=receipt(5, 2).file[:-1]))) == NAMES[11:12]
    assert failing(signed(vote(entries=[]))) == NAMES[11:12]
    assert failing(signed(vote(address=vote_at("A" * 56, "us")))) == NAMES[6:7]
    assert failing(forged(vote(), format="comitia-evidence/1")) == NAMES[1:2]
    strange = proved(decided())
    assert failing(signed(vote(entries=strange))) == NAMES[8:9]


def test_a_history_goes_as_far_as_its_last_event() -> None:
    event = History(events=[HistoryEvent(event_id=n, version=n << 40, task_id=n) for n in (1, 2, 300)])
    assert last_event_of(event.SerializeToString()) == LastEvent(300, is_end=False)
    for kind in EventType.values():
        history = History(events=[HistoryEvent(event_id=1), HistoryEvent(event_id=2, event_type=kind)])
        assert last_event_of(history.SerializeToString()) == LastEvent(2, is_end=is_end(history.events[-1]))
    assert sum(is_end(HistoryEvent(event_type=kind)) for kind in EventType.values()) == 6
    whole = event.SerializeToString()
    for content in (b"", b"\x0b", b"\x0a", b"\x0a\x7f\x08", b"\x80" * 11, whole[:-1], b"\n\0"):
        with pytest.raises(ValueError, match=r"."):
            last_event_of(content)
