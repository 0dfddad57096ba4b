"""Reconciliation: how far each survey's ledger was checked, what it came to, and the differences that were found."""

from alembic import op

revision = "0004_reconciliation"
down_revision = "0003_tally"
branch_labels = None
depends_on = None

TABLES = """
CREATE SCHEMA reconciliation;

-- Every transaction before `xid` is checked; `sums` is what they came to. The blocks say from where on the tables are
-- read for what came later.
CREATE TABLE reconciliation.checkpoint (
    survey_id text NOT NULL,
    xid xid8 NOT NULL,
    participation_block bigint NOT NULL,
    ballot_block bigint NOT NULL,
    sums jsonb NOT NULL,
    uncompared boolean NOT NULL DEFAULT false,
    checked_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    CONSTRAINT pk_checkpoint PRIMARY KEY (survey_id)
);

-- One bit per batch number of a gateway, most significant first, as the tally keeps them.
CREATE TABLE reconciliation.batch_bits (
    survey_id text NOT NULL,
    gateway_id bytea NOT NULL,
    chunk bigint NOT NULL,
    bits bytea NOT NULL,
    CONSTRAINT pk_batch_bits PRIMARY KEY (survey_id, gateway_id, chunk),
    CONSTRAINT ck_batch_bits_size CHECK (octet_length(bits) <= 8192)
);

-- Open where it is neither repaired nor cleared.
CREATE TABLE reconciliation.difference (
    survey_id text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    body jsonb NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    repaired_at timestamptz,
    cleared_at timestamptz,
    CONSTRAINT pk_difference PRIMARY KEY (survey_id, kind, subject),
    CONSTRAINT ck_difference_body CHECK (octet_length(body::text) <= 4096)
);
CREATE INDEX ix_difference_open ON reconciliation.difference (kind) WHERE repaired_at IS NULL AND cleared_at IS NULL;

-- How many references of a kind had no target when they were last counted.
CREATE TABLE reconciliation.dangling (
    kind text NOT NULL,
    dangling bigint NOT NULL,
    counted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_dangling PRIMARY KEY (kind)
);
"""

FUNCTIONS = """
-- Counts and nothing else, so that whoever asks needs no right to identities. What constraints keep from happening is
-- counted too: a restored or hand-mended database may lack them.
CREATE FUNCTION reconciliation.dangling_references() RETURNS TABLE (kind text, dangling bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT 'ballot_without_batch', count(*) FROM voting.ballot WHERE NOT EXISTS (
        SELECT FROM voting.batch WHERE batch.gateway_id = ballot.gateway_id AND batch.number = ballot.number)
    UNION ALL SELECT 'ballot_without_survey', count(*) FROM voting.ballot WHERE NOT EXISTS (
        SELECT FROM voting.survey WHERE survey.survey_id = ballot.survey_id)
    UNION ALL SELECT 'participation_without_survey', count(*) FROM voting.participation WHERE NOT EXISTS (
        SELECT FROM voting.survey WHERE survey.survey_id = participation.survey_id)
    UNION ALL SELECT 'batch_without_gateway', count(*) FROM voting.batch WHERE NOT EXISTS (
        SELECT FROM voting.gateway WHERE gateway.gateway_id = batch.gateway_id)
    UNION ALL SELECT 'batch_count_without_batch', count(*) FROM voting.batch_count WHERE NOT EXISTS (
        SELECT FROM voting.batch WHERE batch.gateway_id = batch_count.gateway_id AND batch.number = batch_count.number)
    UNION ALL SELECT 'batch_count_without_survey', count(*) FROM voting.batch_count WHERE NOT EXISTS (
        SELECT FROM voting.survey WHERE survey.survey_id = batch_count.survey_id)
    UNION ALL SELECT 'audit_entry_without_batch', count(*) FROM audit.entry WHERE entry.kind = 'votes.recorded'
        AND NOT EXISTS (SELECT FROM voting.batch WHERE batch.xid = entry.xid)
    UNION ALL SELECT 'batch_without_audit_entry', count(*) FROM voting.batch WHERE NOT EXISTS (
        SELECT FROM audit.entry WHERE entry.xid = batch.xid AND entry.kind = 'votes.recorded')
    UNION ALL SELECT 'answer_session_without_survey', count(*) FROM voting.answer_session WHERE NOT EXISTS (
        SELECT FROM voting.survey WHERE survey.survey_id = answer_session.survey_id)
    UNION ALL SELECT 'epoch_without_survey', count(*) FROM tally.epoch WHERE NOT EXISTS (
        SELECT FROM voting.survey WHERE survey.survey_id = epoch.survey_id)
    UNION ALL SELECT 'electorate_without_survey', count(*) FROM identity.survey WHERE NOT EXISTS (
        SELECT FROM voting.survey AS copy WHERE copy.survey_id = survey.survey_id)
    UNION ALL SELECT 'survey_without_electorate', count(*) FROM voting.survey WHERE NOT EXISTS (
        SELECT FROM identity.survey AS copy WHERE copy.survey_id = survey.survey_id)
    UNION ALL SELECT 'voter_without_person', count(*) FROM identity.voter WHERE person_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM identity.person WHERE person.person_id = voter.person_id)
    UNION ALL SELECT 'roll_without_person', count(*) FROM identity.roll WHERE NOT EXISTS (
        SELECT FROM identity.person WHERE person.person_id = roll.person_id);
END;
REVOKE ALL ON FUNCTION reconciliation.dangling_references() FROM PUBLIC;
"""

GRANTS = """
GRANT USAGE ON SCHEMA voting, audit, tally, reconciliation TO comitia_reconciliation;
GRANT SELECT ON voting.survey, voting.gateway, voting.participation, voting.ballot, voting.batch, voting.batch_count,
    audit.entry, tally.epoch TO comitia_reconciliation;
GRANT SELECT, INSERT, UPDATE, DELETE ON reconciliation.checkpoint, reconciliation.batch_bits, reconciliation.dangling
    TO comitia_reconciliation;
-- What was found is never taken back, only marked as repaired or cleared.
GRANT SELECT, INSERT, UPDATE ON reconciliation.difference TO comitia_reconciliation;
GRANT EXECUTE ON FUNCTION reconciliation.dangling_references() TO comitia_reconciliation;
-- A repair of the tally is a rebuild.
GRANT INSERT ON tally.epoch TO comitia_reconciliation;
GRANT UPDATE (allocated, installed) ON tally.epoch TO comitia_reconciliation;
-- Staff read the report through the surveys service.
GRANT USAGE ON SCHEMA reconciliation TO comitia_surveys;
GRANT SELECT ON reconciliation.checkpoint, reconciliation.difference TO comitia_surveys;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (TABLES, FUNCTIONS, GRANTS):
        op.execute(statements)
