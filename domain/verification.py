"""What anybody can check of a certificate, with nothing but its file, the published ballots and the public key."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from domain.certificates import BALLOTS_FORMAT, FORMAT, canonical_json, certificate_id, signed_bytes, totals_document
from domain.framing import framed
from domain.hexadecimal import bytes_of
from domain.merkle import GrowingTree, leaf_hash, root
from domain.recount import add_counts, regions_of
from domain.tally import BALLOTS, Counts

Json = dict[str, Any]
IsSigned = Callable[[bytes, bytes, bytes], bool]  # message, signature, public key

_ENVELOPE = {"certificate", "id", "signature"}
_SIGNATURE = {"algorithm", "keyId", "value"}


@dataclass(frozen=True, slots=True)
class Check:
    """One statement of a certificate and whether it holds; `detail` says what was compared."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class BallotLines:
    """A file of published ballots: its name for people, and its bytes in pieces."""

    name: str
    pieces: Iterable[bytes]


class UnreadableError(ValueError):
    """A file is not what it is said to be, so that nothing can be checked."""


def read_certificate(content: bytes) -> Json:
    """Return the envelope of a certificate's file.

    Whatever reads the file reads the same in it: no member comes twice, of which one reader takes the first and another
    one the last, and nothing stands beside what is signed.

    Raises:
        UnreadableError: this is no certificate of a format that we know.
    """
    try:
        found = json.loads(content, object_pairs_hook=_object)
        certificate, signature = found["certificate"], found["signature"]
        known = certificate["format"] == FORMAT and certificate["publishedBallots"]["format"] == BALLOTS_FORMAT
        usable = known and isinstance(signature["keyId"], str) and isinstance(signature["value"], str)
        usable = usable and found.keys() == _ENVELOPE and signature.keys() == _SIGNATURE
        usable = usable and signature["algorithm"] == "Ed25519"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError("not a certificate") from error
    if not usable:
        raise UnreadableError("not a certificate of a known format")
    return dict(found)


def _object(members: list[tuple[str, Any]]) -> Json:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member twice")
    return found


def read_keys(content: bytes) -> dict[str, bytes]:
    """Return public keys by id, from what `GET /v1/certificate-keys` answers.

    Raises:
        UnreadableError: this is no list of keys.
    """
    try:
        return {key["keyId"]: bytes_of(key["publicKey"]) for key in json.loads(content)["keys"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableError("not a list of keys") from error


def verify_certificate(
    envelope: Json, keys: Mapping[str, bytes], files: Iterable[BallotLines], is_signed: IsSigned
) -> list[Check]:
    """Return every check, in order; the certificate is good where all of them hold.

    Raises:
        UnreadableError: a part of the certificate is missing, or cannot be what it should be.
    """
    certificate: Json = envelope["certificate"]
    try:
        checks = [_signature(envelope, keys, is_signed), _id(envelope), *_sums(certificate), _ledger_root(certificate)]
        return [*checks, *_ballots(certificate, files)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError("a part of the certificate is missing") from error


def _signature(envelope: Json, keys: Mapping[str, bytes], is_signed: IsSigned) -> Check:
    key_id = envelope["signature"]["keyId"]
    if key_id not in keys:
        return Check("signature", holds=False, detail=f"the key {key_id} is not among those given")
    try:
        value = bytes_of(envelope["signature"]["value"])
        holds = is_signed(signed_bytes(envelope["certificate"]), value, keys[key_id])
    except ValueError:
        holds = False
    return Check("signature", holds=holds, detail=f"Ed25519, key {key_id}")


def _id(envelope: Json) -> Check:
    expected = certificate_id(envelope["certificate"])
    return Check("id", holds=envelope.get("id") == expected, detail=f"the content gives {expected}")


def _sums(certificate: Json) -> list[Check]:
    cells, totals = certificate["cells"], certificate["totals"]
    checks = [
        Check(
            f"{name} of cells",
            holds=sum(cell[name] for cell in cells) == certificate[name],
            detail=f"{certificate[name]} over {len(cells)} cells",
        )
        for name in ("participations", "ballots", "batches")
    ]
    counted = {certificate["participations"], certificate["ballots"], totals["ballots"]}
    counted |= {certificate["recount"]["ballots"], certificate["publishedBallots"]["ballots"]}
    counted.add(sum(region["ballots"] for region in totals["regions"].values()))
    checks.append(
        Check(
            "counts agree",
            holds=len(counted) == 1,
            detail="participations = ballots = totals = recounted = published" if len(counted) == 1 else str(counted),
        )
    )
    found = certificate["reconciliation"]["differences"], certificate["recount"]["differences"]
    checks.append(Check("no differences", holds=found == (0, 0), detail="of the reconciliation and of the recount"))
    return checks


def _ledger_root(certificate: Json) -> Check:
    names = ("participationsRoot", "ballotsRoot", "batchesRoot")
    try:
        leaves = [
            framed(cell["cell"].encode(), *(bytes_of(cell[name]) for name in names))
            for cell in sorted(certificate["cells"], key=lambda cell: cell["cell"])
        ]
        holds = root(leaves).hex() == certificate["ledgerRoot"]
    except ValueError:
        holds = False
    return Check("ledger root", holds=holds, detail="the tree over the roots of the cells")


def _ballots(certificate: Json, files: Iterable[BallotLines]) -> list[Check]:
    published = certificate["publishedBallots"]
    tree, counts, checks = GrowingTree(), Counts(), list[Check]()
    known = [{**about, "taken": False} for about in published["files"]]
    ordered: dict[int, list[bytes]] = {}
    for file in files:
        digest, lines, size = _read(file)
        place = next((n for n, about in enumerate(known) if about["sha256"] == digest and not about["taken"]), None)
        if place is not None:
            known[place]["taken"] = True
            ordered[place] = lines
        holds = place is not None and known[place]["sizeBytes"] == size and known[place]["ballots"] == len(lines)
        checks.append(Check(f"digest of {file.name}", holds=holds, detail=f"{len(lines)} ballots, SHA-256 {digest}"))
    missing = sum(not about["taken"] for about in known)
    checks.append(Check("files complete", holds=not missing, detail=f"{len(known) - missing} of {len(known)}"))
    options = {
        (question["id"], option["id"])
        for question in certificate["survey"]["questions"]
        for option in question["options"]
    }
    problem = ""
    for place in sorted(ordered):
        for line in ordered[place]:
            tree.append(leaf_hash(line))
            problem = _count(line, counts, options) or problem
    checks += [
        Check("ballots well formed", holds=not problem, detail=problem or "every line is a ballot of this survey"),
        Check("ballots counted", holds=tree.size == published["ballots"], detail=f"{tree.size} lines"),
        Check("root of published ballots", holds=tree.root().hex() == published["root"], detail=tree.root().hex()),
        Check(
            "totals recomputed",
            holds=totals_document(regions_of(counts)) == certificate["totals"],
            detail="every option and region, from the published ballots",
        ),
    ]
    return checks


def _read(file: BallotLines) -> tuple[str, list[bytes], int]:
    digest, content = hashlib.sha256(), bytearray()
    for piece in file.pieces:
        digest.update(piece)
        content += piece
    return digest.hexdigest(), bytes(content).splitlines(keepends=True), len(content)


def _count(line: bytes, counts: Counts, options: Collection[tuple[str, str]]) -> str:
    """Add a published ballot; return what is wrong with it, or nothing."""
    try:
        ballot = json.loads(line)
        region, answers = ballot["region"], ballot["answers"]
        chosen = [(question, option) for question, options in answers.items() for option in options]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "a line is not a ballot"
    if canonical_json(ballot) + b"\n" != line or len(set(chosen)) != len(chosen):
        return "a line is not in the one form"
    if not all(choice in options for choice in chosen):
        return "a line names an option that the survey does not have"
    add_counts(counts, {(region, BALLOTS): 1})
    for _, option in chosen:
        add_counts(counts, {(region, option): 1})
    return ""
