"""The end of a survey: pausing, sealing for good, certified totals, destroyed keys, and a role that may count again."""

from alembic import op

revision = "0005_certification"
down_revision = "0004_reconciliation"
branch_labels = None
depends_on = None

SURVEYS = """
-- Of a gateway that did not say it: the most that the setting allows.
ALTER TABLE voting.gateway ADD COLUMN batches_in_flight integer NOT NULL DEFAULT 64;
ALTER TABLE voting.survey ADD COLUMN paused_at timestamptz, ADD COLUMN keys_destroyed_at timestamptz;
ALTER TABLE identity.survey ADD COLUMN keys_destroyed_at timestamptz;

CREATE FUNCTION voting.refuse_unsealing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'survey % is sealed', OLD.survey_id USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER survey_stays_sealed BEFORE UPDATE ON voting.survey FOR EACH ROW
WHEN (OLD.sealed_at IS NOT NULL AND (OLD.sealed_at, OLD.start_at, OLD.finish_at, OLD.survey_id)
    IS DISTINCT FROM (NEW.sealed_at, NEW.start_at, NEW.finish_at, NEW.survey_id))
EXECUTE FUNCTION voting.refuse_unsealing();
"""

CERTIFICATES = """
-- What the results of a certified survey are, for as long as it is kept.
CREATE TABLE tally.certificate (
    survey_id text NOT NULL,
    certificate_id text NOT NULL,
    certified_at timestamptz NOT NULL,
    regions jsonb NOT NULL,
    CONSTRAINT pk_certificate PRIMARY KEY (survey_id)
);

CREATE TRIGGER tally_certificate_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tally.certificate
    FOR EACH STATEMENT EXECUTE FUNCTION voting.refuse_change();
"""

GRANTS = """
GRANT SELECT, INSERT ON tally.certificate TO comitia_surveys;
GRANT SELECT ON tally.certificate TO comitia_tally;
GRANT USAGE ON SCHEMA voting TO comitia_certification;
GRANT SELECT ON voting.survey, voting.gateway, voting.participation, voting.batch, voting.ballot, voting.batch_count
    TO comitia_certification;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (SURVEYS, CERTIFICATES, GRANTS):
        op.execute(statements)
