"""The catalogue's side of a survey's end: pauses, extensions, certifications and destroyed keys."""

from alembic import op

revision = "0003_certification"
down_revision = "0002_reconciliation"
branch_labels = None
depends_on = None

STATEMENTS = """
ALTER TABLE catalogue.survey ADD COLUMN paused_at timestamptz, ADD COLUMN keys_destroyed_at timestamptz;

ALTER TABLE catalogue.staff_action DROP CONSTRAINT ck_staff_action_action;
ALTER TABLE catalogue.staff_action ADD CONSTRAINT ck_staff_action_action CHECK (
    action IN (
        'create', 'update', 'correct', 'delete', 'publish', 'finish', 'export',
        'pause', 'resume', 'extend', 'certify', 'destroy_keys'
    )
);

-- `state` is what the process of the survey says of itself; its latest revision stays.
CREATE TABLE catalogue.certification (
    survey_id text NOT NULL,
    revision bigint NOT NULL,
    stage text NOT NULL,
    state jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_certification PRIMARY KEY (survey_id),
    CONSTRAINT fk_certification_survey FOREIGN KEY (survey_id) REFERENCES catalogue.survey (survey_id),
    CONSTRAINT ck_certification_revision CHECK (revision > 0)
);

CREATE FUNCTION catalogue.refuse_uncertifying() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'survey % is certified', OLD.survey_id USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER certification_stays BEFORE UPDATE ON catalogue.certification FOR EACH ROW
WHEN (OLD.state -> 'certificate' <> 'null'::jsonb AND OLD.state -> 'certificate' IS DISTINCT FROM
    NEW.state -> 'certificate')
EXECUTE FUNCTION catalogue.refuse_uncertifying();

GRANT SELECT, INSERT, UPDATE ON catalogue.certification TO comitia_surveys;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(STATEMENTS)
