"""References without a target are counted by kind, and shown with the differences that are open."""

import secrets
import uuid
from datetime import timedelta

import asyncpg
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from domain.ids import BatchId, new_survey_id
from integrations.postgres.pool import open_pool
from integrations.postgres.references import CellReferences
from integrations.postgres.roles import RECONCILIATION
from integrations.telemetry.reconciliation_metrics import ReconciliationMetrics
from tests.conftest import SettingsFor
from tests.reconciliation_world import World
from workers.reference_checks import ReferenceChecks


class Surveys:
    """The catalogue, as a test says."""

    def __init__(self, stages: dict[str, str]) -> None:
        self._stages = stages

    async def stages(self) -> dict[str, str]:
        return self._stages


async def test_each_dangling_reference_is_counted_where_it_is(world: World) -> None:
    place, survey_id = world.one, world.survey.id
    pool = await open_pool(world.settings.cells[place.cell].database, world.settings, RECONCILIATION, size=1)
    try:
        references = CellReferences(pool)
        stages = {survey_id: "published"}
        before = await references.count(stages)
        lost, nowhere = new_survey_id(), BatchId(secrets.token_bytes(16), 3)
        await place.stuff_ballot(place.voting, nowhere, uuid.uuid4(), place.vote().sealed_answers)
        await place.voting.execute(
            "INSERT INTO voting.participation (survey_id, nullifier, region, evidence, key_mac) "
            "VALUES ($1, $2, 'north', $3, '')",
            lost,
            secrets.token_bytes(32),
            secrets.token_bytes(64),
        )
        await place.voting.execute("INSERT INTO audit.entry (kind, body) VALUES ('votes.recorded', '{}')")
        await place.voting.execute(
            "INSERT INTO voting.answer_session (session_hash, survey_id, nullifier, state) VALUES ($1, $2, $1, '')",
            secrets.token_bytes(32),
            lost,
        )
        await place.record_wrongly(entries=[])
        await place.owner.execute("INSERT INTO tally.epoch (survey_id, allocated) VALUES ($1, 1)", lost)
        after = await references.count({**stages, lost: "published", new_survey_id(): "draft"})
        assert {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]} == {
            "ballot_without_batch": 1,
            "participation_without_survey": 1,
            "audit_entry_without_batch": 1,
            "batch_without_audit_entry": 1,
            "answer_session_without_survey": 1,
            "epoch_without_survey": 1,
            "survey_without_copy": 1,
        }
        assert (await references.count({}))["copy_without_survey"] == before["copy_without_survey"] + 1
        assert await references.counted(timedelta(hours=1)) == await references.count({})
    finally:
        await pool.close()


async def test_what_is_open_and_what_dangles_is_a_metric_by_kind(world: World) -> None:
    place = world.one
    await place.owner.execute("UPDATE reconciliation.difference SET cleared_at = now()")  # of tests before
    await place.record_wrongly(ballots_root=bytes(32))
    await world.reconcile()
    pool = await open_pool(world.settings.cells[place.cell].database, world.settings, RECONCILIATION, size=1)
    try:
        registry = CollectorRegistry()
        checks = ReferenceChecks(
            Surveys({world.survey.id: "published"}),  # type: ignore[arg-type]
            {place.cell: CellReferences(pool)},
            ReconciliationMetrics(registry),
            count_every=timedelta(0),
        )
        await checks.show(place.cell)
        shown = generate_latest(registry).decode()
        label = f'cell="{place.cell}",kind='
        assert f'reconciliation_differences_open{{{label}"ballots_root_differs"}} 1.0' in shown
        assert f'reconciliation_differences_open{{{label}"evidence_invalid"}} 0.0' in shown
        assert f'dangling_references{{{label}"batch_without_gateway"}} 0.0' in shown
        await world.reconcile(complete=True)
        await place.owner.execute("UPDATE reconciliation.difference SET cleared_at = now()")
        await checks.show(place.cell)
        assert (
            f'reconciliation_differences_open{{{label}"ballots_root_differs"}} 0.0'
            in generate_latest(registry).decode()
        )
    finally:
        await pool.close()


async def test_counting_needs_no_right_to_identities(world: World) -> None:
    place = world.one
    pool = await open_pool(world.settings.cells[place.cell].database, world.settings, RECONCILIATION, size=1)
    try:
        rights = await pool.fetch(
            "SELECT c.oid::regclass::text AS relation FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'identity' AND c.relkind = 'r' AND (has_table_privilege(c.oid, 'SELECT') "
            "OR has_any_column_privilege(c.oid, 'SELECT'))"
        )
        assert rights == []
        assert "voter_without_person" in await CellReferences(pool).count({})
    finally:
        await pool.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO voting.gateway (gateway_id, build) VALUES ('', '')",
        "DELETE FROM voting.ballot",
        "UPDATE voting.batch SET outcomes = ''",
        "UPDATE voting.batch_count SET ballots = 1",
        "INSERT INTO audit.entry (kind, body) VALUES ('votes.recorded', '{}')",
        "DELETE FROM reconciliation.difference",
        "SELECT wrapped_eligibility_key FROM identity.survey",
    ],
)
async def test_whoever_reconciles_changes_nothing_and_takes_nothing_back(
    settings_for: SettingsFor, statement: str
) -> None:
    settings = settings_for(RECONCILIATION)
    pool = await open_pool(settings.cells["eu"].database, settings, RECONCILIATION, size=1)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)
    finally:
        await pool.close()
