"""What the service has of one cell; it writes nothing but what was asked of whom, and why."""

from dataclasses import dataclass

from domain.accounts import Accounts, PersonalRecords
from domain.audit_ports import LockedObjects
from domain.registrations import Registrations
from domain.signatures import Signatures
from domain.staff_entries import StaffEntries
from domain.submissions import SubmissionIds
from integrations.identity_cell import IdentityCell
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.cases import PostgresCases
from integrations.postgres.staff_entries import PostgresStaffEntries
from integrations.temporal.archived_histories import ArchivedHistories
from integrations.temporal.case_actions import TemporalCaseActions
from integrations.temporal.histories import Histories
from integrations.temporal.runs import Runs
from integrations.temporal.standings import Standings
from integrations.temporal.submissions import SubmissionCases
from integrations.temporal.timelines import Timelines
from integrations.temporal.unmaskings import TemporalUnmaskings


@dataclass(frozen=True, slots=True)
class SupportCell:
    """One cell's cases, the accounts that they are found by, their processes, and what is asked of those."""

    name: str
    cases: PostgresCases
    accounts: Accounts
    records: PersonalRecords
    standings: Standings
    timelines: Timelines
    submissions: SubmissionCases
    registrations: Registrations
    entries: StaffEntries
    actions: TemporalCaseActions
    unmaskings: TemporalUnmaskings


def support_cell(
    cell: IdentityCell, signatures: Signatures, ids: SubmissionIds, objects: LockedObjects | None = None
) -> SupportCell:
    """Return the readers over a cell's clients, whose codec opens lasting histories and payloads in flight.

    `objects` have the archive; without them what the server has dropped is not read.
    """
    histories, standings = Histories(cell.temporal, cell.codec), Standings(cell.temporal)
    places = PostgresArchive(cell.pool)
    archive = None if objects is None else ArchivedHistories(places, objects, cell.codec)
    timelines = Timelines(histories, Runs(cell.temporal, places), standings, signatures, archive)
    return SupportCell(
        name=cell.name,
        cases=PostgresCases(cell.pool),
        accounts=cell.accounts,
        records=cell.records,
        standings=standings,
        timelines=timelines,
        submissions=SubmissionCases(cell.name, histories, timelines, cell.codec, ids),
        registrations=cell.registrations,
        entries=PostgresStaffEntries(cell.pool),
        actions=TemporalCaseActions(cell.temporal),
        unmaskings=TemporalUnmaskings(cell.temporal, cell.name),
    )
