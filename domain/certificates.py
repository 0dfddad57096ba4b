"""The certificate of a survey: what it states, how it is written down, and how anybody checks it.

The document is canonical JSON: keys sorted, no spaces, UTF-8, numbers whole (a subset of RFC 8785). What is signed are
its bytes behind a word that says what they are. Digests and roots are lowercase hexadecimal.
"""

import hashlib
import json
from base64 import b32encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from domain.ballots import OpenedBallot
from domain.contracts.certification import (
    CellRecount,
    CertificationDifference,
    CertifySurveyInput,
    PublishedBallots,
    SealedCell,
)
from domain.contracts.reconciliation import Difference, ReconciliationReport
from domain.contracts.voting import RegionCounts
from domain.framing import framed
from domain.merkle import root
from domain.recount import counts_of, regions_of
from domain.surveys import definition_digest

FORMAT = "comitia/certificate/1"
BALLOTS_FORMAT = "comitia/ballots/1"

Json = dict[str, Any]


def canonical_json(document: Any) -> bytes:
    """Return the one form of a document of objects, lists, texts, whole numbers and None."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def signed_bytes(certificate: Json) -> bytes:
    """Return what is signed of a certificate."""
    return framed(FORMAT.encode(), canonical_json(certificate))


def certificate_id(certificate: Json) -> str:
    """Return the id that the content gives: `c_` and 26 characters."""
    digest = hashlib.sha256(canonical_json(certificate)).digest()
    return "c_" + b32encode(digest).decode("ascii").lower()[:26]


def certificate_of(request: CertifySurveyInput, build: str) -> Json:
    """Return the document of everything that was found."""
    survey = request.survey
    counts = counts_of(region for recount in request.recounts for region in recount.regions)
    recounts = {recount.cell: recount for recount in request.recounts}
    published = request.published
    return {
        "format": FORMAT,
        "build": build,
        "certifiedAt": instant(request.certified_at),
        "survey": {
            "id": survey.id,
            "title": survey.title,
            "version": survey.version,
            "definitionSha256": definition_digest(survey).hex(),
            "questions": [
                {
                    "id": question.id,
                    "title": question.title,
                    "options": [_option(o.id, o.text) for o in question.options],
                }
                for question in survey.questions
            ],
        },
        "participations": sum(recount.participations for recount in request.recounts),
        "ballots": sum(recount.ballots for recount in request.recounts),
        "batches": sum(recount.batches for recount in request.recounts),
        "totals": totals_document(regions_of(counts)),
        "cells": [_cell(sealed, recounts[sealed.cell]) for sealed in sorted(request.sealed, key=lambda s: s.cell)],
        "ledgerRoot": ledger_root(request.recounts).hex(),
        "reconciliation": {
            "execution": request.reconciled.workflow_id,
            "at": instant(request.reconciled.at),
            "differences": 0,  # or there is no certificate: of open ones, and of what was not compared
        },
        "recount": {"ballots": sum(recount.ballots for recount in request.recounts), "differences": 0},
        "publishedBallots": {
            "format": BALLOTS_FORMAT,
            "ballots": published.ballots,
            "root": published.root.hex(),
            "files": [
                {"sha256": file.stored.sha256.hex(), "sizeBytes": file.stored.size_bytes, "ballots": file.ballots}
                for file in published.files
            ],
        },
    }


def totals_document(regions: Iterable[RegionCounts]) -> Json:
    """Return totals over everything and per region; options that nobody chose are left out."""
    ballots, options, by_region = 0, dict[str, int](), dict[str, Json]()
    for region in regions:
        ballots += region.ballots
        for option, votes in region.options.items():
            options[option] = options.get(option, 0) + votes
        by_region[region.region] = {"ballots": region.ballots, "options": dict(region.options)}
    return {"ballots": ballots, "options": options, "regions": by_region}


def ledger_root(recounts: Iterable[CellRecount]) -> bytes:
    """Return the tree hash over the cells' three roots, cells by name."""
    return root(
        framed(found.cell.encode(), found.participations_root, found.ballots_root, found.batches_root)
        for found in sorted(recounts, key=lambda found: found.cell)
    )


def envelope(certificate: Json, key_id: str, signature: bytes) -> bytes:
    """Return the file of a certificate: the document, its id, and the signature (64 bytes) under the key of this id."""
    return canonical_json(
        {
            "certificate": certificate,
            "id": certificate_id(certificate),
            "signature": {"algorithm": "Ed25519", "keyId": key_id, "value": signature.hex()},
        }
    )


def ballot_line(ballot: OpenedBallot) -> bytes:
    """Return a published ballot, one line of canonical JSON.

    Region and choices only. Texts stay sealed: who writes one can be known by it, or be paid for a word.
    """
    answers = {question: list(chosen) for question, chosen, _ in ballot.answers}
    return canonical_json({"region": ballot.region, "answers": answers}) + b"\n"


def instant(moment: datetime) -> str:
    """Return an instant in UTC to the microsecond, as RFC 3339."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def named(difference: Difference) -> CertificationDifference:
    """Return a difference of reconciliation as certification shows it."""
    rows = {
        "batch": difference.batch,
        "ballot": difference.ballot,
        "participation": difference.participation,
        "region": difference.region,
        "option": difference.option,
        "cell": difference.other_cell,
    }
    row = ", ".join(f"{what} {name}" for what, name in rows.items() if name)
    more = f" ({difference.more} more)" if difference.more else ""
    return CertificationDifference(
        cell=difference.cell, kind=difference.kind.value, row=row, detail=difference.detail + more
    )


def not_reconciled(report: ReconciliationReport, cells: Sequence[str]) -> list[CertificationDifference]:
    """Return what a reconciliation has not compared in these cells; nothing of it shows as a difference there."""
    missing = {f"{cell}/ledger" for cell in cells} - {f"{checked.cell}/ledger" for checked in report.checked}
    places = [where.partition("/") for where in sorted(missing.union(report.unreached))]
    return [
        CertificationDifference(
            cell=cell if cell in cells else "", kind="not_reconciled", row=row, detail="could not be compared"
        )
        for cell, _, row in places
    ]


def reconciliation_differences(
    report: ReconciliationReport, recounts: Iterable[CellRecount]
) -> list[CertificationDifference]:
    """Return where the recount found other rows than the reconciliation had before it."""
    checked = {found.cell: found for found in report.checked}
    differences = []
    for recount in recounts:
        if (before := checked.get(recount.cell)) is None:
            continue  # named as not reconciled
        for row, compared, counted in (
            ("participations", before.participations, recount.participations),
            ("ballots", before.ballots, recount.ballots),
            ("batches", before.batches, recount.batches),
        ):
            if compared != counted:
                detail = f"{compared} reconciled, {counted} counted again"
                differences.append(
                    CertificationDifference(cell=recount.cell, kind="reconciliation_differs", row=row, detail=detail)
                )
    return differences


def publication_differences(
    regions: tuple[RegionCounts, ...], ballots: int, published: PublishedBallots
) -> list[CertificationDifference]:
    """Return what the published ballots do not say that the recount says."""
    if published.ballots == ballots and published.regions == regions:
        return []
    detail = f"{published.ballots} published, {ballots} counted"
    return [CertificationDifference(cell="", kind="publication_differs", row="published ballots", detail=detail)]


def _option(option_id: str, text: str) -> Json:
    return {"id": option_id, "text": text}


def _cell(sealed: SealedCell, recount: CellRecount) -> Json:
    return {
        "cell": sealed.cell,
        "closedAt": instant(sealed.closed_at),
        "sealedAt": instant(sealed.sealed_at),
        "batchesNeverStarted": sealed.never_started,
        "participations": recount.participations,
        "ballots": recount.ballots,
        "batches": recount.batches,
        "participationsRoot": recount.participations_root.hex(),
        "ballotsRoot": recount.ballots_root.hex(),
        "batchesRoot": recount.batches_root.hex(),
    }
