"""What anybody can check of an evidence bundle, with nothing but its file and public keys."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import msgspec

from domain.cases import CaseKind
from domain.certificates import canonical_json
from domain.checkpoints import IsSigned, Keys, NoCheckpointError, open_checkpoint, read_verifier_keys
from domain.evidence_bundles import (
    DECISION,
    FORMAT,
    FORMAT_2,
    MANIFEST,
    OPEN,
    RECEIPT,
    SIGNATURE,
    TIMELINE,
    Json,
    signed_bytes,
)
from domain.hexadecimal import bytes_of
from domain.history_events import last_event_of
from domain.log_proofs import EntryProof, read_proof, verify_entry
from domain.receipts import verify_receipt
from domain.sealed_decisions import SealedEntry, compare_with_entries
from domain.stored_zip import NotStoredZipError, read_zip
from domain.verification import Check, UnreadableError, read_keys

_ZIP: Final = "an archive in the one form"
_MANIFEST: Final = "a manifest in the one form"
_SIGNATURE: Final = "signature of the manifest"
_FILES: Final = "files as the manifest lists them"
_DIGESTS: Final = "digests of the files"
_NAMED: Final = "every file has its part"
_HEAD: Final = "signatures of the tree heads"
_ENTRIES: Final = "entries are in the log of the cell"
_OF_CASE: Final = "entries are of the case"
_DECIDED: Final = "the decision is the one that was sealed"
_STATE: Final = "what is open is said to be"
_RECEIPT: Final = "the participation is the one of the receipt"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    sha256: str
    size: int


class _History(msgspec.Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    workflow: str
    run: str
    type: str
    builds: list[str]
    file: str = ""
    left_out: str = ""
    payloads: str = ""
    last_event: int = 0


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    file: str
    proof: str
    index: int
    kind: str


class _Manifest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    format: str
    case: str
    kind: str
    cell: str
    files: list[_File]
    histories: list[_History]
    entries: list[_Entry]
    state: str = ""


class _Signature(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    key_id: str
    signature: str


@dataclass(frozen=True, slots=True)
class BundleKeys:
    """The public keys of bundles by id, and those of logs."""

    bundles: Mapping[str, bytes]
    logs: Keys


@dataclass(slots=True)
class _Opened:
    """What was read so far."""

    files: dict[str, bytes] = field(default_factory=dict)
    names: Sequence[str] = ()
    manifest: _Manifest | None = None
    entries: list[tuple[_Entry, Json]] = field(default_factory=list)


def read_bundle_keys(content: bytes) -> BundleKeys:
    """Return public keys from what `GET /v1/compliance/bundle-keys` answers.

    Raises:
        UnreadableError: this is no list of such keys.
    """
    bundles = read_keys(content)
    try:
        return BundleKeys(bundles, read_verifier_keys(json.loads(content)["verifierKeys"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError("not a list of keys") from error


def verify_bundle(content: bytes, keys: BundleKeys, is_signed: IsSigned) -> list[Check]:
    """Return every check, in order, up to the first without which the rest says nothing; good where all of them hold.

    Whatever is no bundle fails the first.
    """
    opened, checks = _Opened(), list[Check]()
    steps: Sequence[tuple[str, Callable[[], str]]] = (
        (_ZIP, lambda: _read_zip(content, opened)),
        (_MANIFEST, lambda: _read_manifest(opened)),
        (_SIGNATURE, lambda: _signature(opened, keys, is_signed)),
        (_FILES, lambda: _listed(opened)),
        (_DIGESTS, lambda: _digests(opened)),
        (_NAMED, lambda: _named(opened)),
        (_HEAD, lambda: _heads(opened, keys, is_signed)),
        (_ENTRIES, lambda: _proved(opened, keys, is_signed)),
        (_OF_CASE, lambda: _of_case(opened)),
        (_DECIDED, lambda: _decided(opened)),
        (_STATE, lambda: _state(opened)),
        (_RECEIPT, lambda: _receipt(opened, keys, is_signed)),
    )
    for name, step in steps:
        try:
            checks.append(Check(name, holds=True, detail=step()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            detail = str(error) if isinstance(error, ValueError) else f"not readable: {type(error).__name__}"
            return [*checks, Check(name, holds=False, detail=detail)]
    return checks


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - what is required comes first
    if not holds:
        raise UnreadableError(otherwise)


def _read_zip(content: bytes, opened: _Opened) -> str:
    try:
        files = read_zip(content)
    except NotStoredZipError as error:
        raise UnreadableError(str(error)) from error
    opened.files, opened.names = dict(files), [name for name, _ in files]
    return f"{len(files)} files, {len(content):,} bytes"


def _read_manifest(opened: _Opened) -> str:
    content = opened.files[MANIFEST]
    found = msgspec.json.decode(content, type=_Manifest)
    _require(found.format in {FORMAT, FORMAT_2}, "not a format that is known here")
    _require(found.kind in set(CaseKind), "not a kind of case that is known here")
    is_second = bool(found.state) or found.kind == CaseKind.SUBMISSION
    _require((found.format == FORMAT_2) == is_second, f"not what {found.format} is for")
    _require(canonical_json(msgspec.to_builtins(found)) == content, "not in the one form")
    opened.manifest = found
    return f"{found.kind} {found.case}"


def _signature(opened: _Opened, keys: BundleKeys, is_signed: IsSigned) -> str:
    content = opened.files[SIGNATURE]
    found = msgspec.json.decode(content, type=_Signature)
    _require(canonical_json(msgspec.to_builtins(found)) == content, "the signature is not in the one form")
    _require(found.key_id in keys.bundles, f"the key {found.key_id} is not among those given")
    message, value = signed_bytes(_of(opened).format, opened.files[MANIFEST]), bytes_of(found.signature)
    _require(is_signed(message, value, keys.bundles[found.key_id]), "not of this manifest")
    return f"Ed25519, key {found.key_id}"


def _of(opened: _Opened) -> _Manifest:
    assert opened.manifest is not None
    return opened.manifest


def _listed(opened: _Opened) -> str:
    expected = [MANIFEST, SIGNATURE, *(file.name for file in _of(opened).files)]
    _require(list(opened.names) == expected, "others than those that are listed, or in another order")
    return f"{len(expected) - 2} besides the manifest and its signature"


def _digests(opened: _Opened) -> str:
    for file in _of(opened).files:
        content = opened.files[file.name]
        is_it = (len(content), sha256(content).hexdigest()) == (file.size, file.sha256)
        _require(is_it, f"{file.name} is not what was signed")
    return "SHA-256 of each"


def _named(opened: _Opened) -> str:
    """Every file is the decision, the timeline, a history, an entry or a proof; and each of those is there."""
    manifest = _of(opened)
    histories = [history.file for history in manifest.histories if not history.left_out]
    entries = [name for entry in manifest.entries for name in (entry.file, entry.proof)]
    receipt = [RECEIPT] if manifest.kind == CaseKind.SUBMISSION else []
    expected = [DECISION, TIMELINE, *receipt, *histories, *entries]
    _require([file.name for file in manifest.files] == expected, "files without a part, or parts without a file")
    left_out = len(manifest.histories) - len(histories)
    return f"{len(histories)} histories, {left_out} left out, {len(manifest.entries)} entries"


def _proof(opened: _Opened, entry: _Entry) -> EntryProof:
    return read_proof(opened.files[entry.proof])


def _heads(opened: _Opened, keys: BundleKeys, is_signed: IsSigned) -> str:
    manifest, said = _of(opened), "no entries"
    for entry in manifest.entries:
        try:
            head = open_checkpoint(_proof(opened, entry).note, keys.logs, is_signed)
        except NoCheckpointError as error:
            raise UnreadableError(f"{entry.proof}: {error}") from error
        _require(head.origin.rpartition("/")[2] == manifest.cell, f"{entry.proof}: {head.origin} is another cell's log")
        said = f"{head.origin}, {head.size:,} entries"
    return said


def _proved(opened: _Opened, keys: BundleKeys, is_signed: IsSigned) -> str:
    places = [entry.index for entry in _of(opened).entries]
    _require(places == sorted(set(places)), "an entry twice, or in another order")
    for entry in _of(opened).entries:
        proof = _proof(opened, entry)
        checks = verify_entry(opened.files[entry.file], proof, keys.logs, is_signed)
        _require(proof.index == entry.index and all(check.holds for check in checks), f"{entry.file} is not in it")
    return f"at places {', '.join(map(str, places))}" if places else "no entries"


def _of_case(opened: _Opened) -> str:
    manifest = _of(opened)
    for entry in manifest.entries:
        found = json.loads(opened.files[entry.file])
        # A batch is of many, so its entry names none of them: the receipt is what leads to it
        subject = found["body"].get("subject", "") if manifest.kind == CaseKind.SUBMISSION else found["body"]["subject"]
        is_of = (found["kind"], subject) == (entry.kind, "" if manifest.kind == CaseKind.SUBMISSION else manifest.case)
        _require(is_of, f"{entry.file} is of another case or kind")
        opened.entries.append((entry, found["body"]))
    return ", ".join(entry.kind for entry in manifest.entries) or "no entries"


def _decided(opened: _Opened) -> str:
    """Compare the decision with the entries that were written in its transactions."""
    record = json.loads(opened.files[DECISION])["record"]
    if record is None:
        return "no record is kept: the entries and histories alone say what was decided"
    if _of(opened).kind == CaseKind.SUBMISSION:
        return "of a vote the receipt says it"
    sealed = [SealedEntry(entry.kind, body) for entry, body in opened.entries]
    return compare_with_entries(CaseKind(_of(opened).kind), record, sealed)


def _state(opened: _Opened) -> str:
    """A case is open where a history of it goes no further than an event that is not its end, and else it is over."""
    manifest = _of(opened)
    said = {history.file: history.last_event for history in manifest.histories if history.last_event}
    _require(manifest.state == (OPEN if said else ""), "open without an open history, or the other way round")
    _require(set(said) <= set(opened.files), "an open history without its file")
    for name in (history.file for history in manifest.histories if not history.left_out):
        last = last_event_of(opened.files[name])
        _require(last.event_id == said.get(name, last.event_id), f"{name} goes to another event than {said.get(name)}")
        _require(last.is_end == (name not in said), f"{name} has no end, or is said to have none")
    if not said:
        return "the case is over"
    return "open: " + ", ".join(f"{name} up to event {last}" for name, last in said.items())


def _receipt(opened: _Opened, keys: BundleKeys, is_signed: IsSigned) -> str:
    """Of a vote: its receipt is good, and its entry is that of the bundle."""
    if _of(opened).kind != CaseKind.SUBMISSION:
        return "not a vote"
    content = opened.files[RECEIPT]
    failing = [check.name for check in verify_receipt(content, keys.logs, is_signed) if not check.holds]
    _require(not failing, f"{RECEIPT}: {', '.join(failing)}")
    found, (entry,) = json.loads(content), _of(opened).entries
    _require(canonical_json(found["entry"]) == opened.files[entry.file], "the receipt is of another batch")
    own, record = found["participation"], json.loads(opened.files[DECISION])["record"]
    said = (record["survey"], record["region"], record["batch"])
    is_said = said == (own["survey"], own["region"], found["entry"]["body"]["batch"])
    _require(is_said and found["cell"] == _of(opened).cell, "the receipt says something else than the record")
    return f"in {own['survey']}, one of {found['size']} of its batch"
