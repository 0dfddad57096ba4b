"""What evidence bundles are made of, from a cell's clients; for the service, and for the command line."""

from collections.abc import Callable, Mapping

import asyncpg

from activities.log_reading import LogReading
from api.compliance.evidence import EvidenceCell, EvidenceDesk
from api.compliance.evidence_votes import CellVotes
from domain.audit_log import origin_of, verifier_keys
from domain.audit_ports import LockedObjects
from domain.evidence_bundles import PublicKeys
from domain.ports import KeyManagement
from domain.submissions import SubmissionIds
from integrations.identity_cell import IdentityCell
from integrations.keys.purposes import AUDIT_LOG, BUNDLE
from integrations.keys.signing import CertificateKeys, LogKeys
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.case_evidence import PostgresCaseEvidence
from integrations.postgres.participation_proofs import PostgresParticipationProofs
from integrations.postgres.staff_entries import PostgresStaffEntries
from integrations.settings import Settings
from integrations.temporal.archived_histories import ArchivedHistories
from integrations.temporal.case_histories import CaseHistories
from integrations.temporal.histories import Histories
from integrations.temporal.runs import Runs
from integrations.temporal.standings import Standings
from integrations.temporal.submissions import SubmissionCases
from integrations.temporal.timelines import Timelines
from workflows.signatures import all_signatures


def evidence_desk(
    settings: Settings,
    keys: KeyManagement,
    objects: LockedObjects,
    cell_of: Callable[[str | None], IdentityCell],
    *,
    ids: SubmissionIds,
    places: Mapping[str, asyncpg.Pool],
) -> EvidenceDesk:
    """Return the desk; `keys` permits `BUNDLE`, the public keys of `AUDIT_LOG`, and what opens every history.

    `places` are connections to each cell as the role `comitia_search`.
    """
    signatures, signer = all_signatures(), LogKeys(keys, AUDIT_LOG)

    def evidence_cell(name: str | None) -> EvidenceCell:
        cell = cell_of(name)
        records = PostgresCaseEvidence(cell.pool)
        archived = PostgresArchive(cell.pool)
        archive = ArchivedHistories(archived, objects, cell.codec)
        log = LogReading(objects, signer, cell.name, origin_of(settings.environment.value, cell.name))
        histories = Histories(cell.temporal, cell.codec)
        timelines = Timelines(histories, Runs(cell.temporal, archived), Standings(cell.temporal), signatures)
        submissions = SubmissionCases(cell.name, histories, timelines, cell.codec, ids)
        return EvidenceCell(
            records=records,
            runs=CaseHistories(cell.temporal, cell.codec, archived, archive, signatures),
            votes=CellVotes(cell.name, submissions, PostgresParticipationProofs(places[cell.name]), log),
            log=log,
            entries=PostgresStaffEntries(cell.pool),
        )

    return EvidenceDesk(tuple(settings.cells), evidence_cell, CertificateKeys(keys, BUNDLE))


async def bundle_keys(settings: Settings, keys: KeyManagement) -> PublicKeys:
    """Return the keys that check bundles. Raises DomainError `key_unavailable`."""
    await keys.current(BUNDLE)  # made on first use: whoever takes the keys along before the first bundle has it
    logs = await keys.public_keys(AUDIT_LOG)
    lines = verifier_keys(settings.environment.value, settings.cells, logs.values())
    return PublicKeys(await keys.public_keys(BUNDLE), lines)
