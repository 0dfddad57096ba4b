"""Tally: which rebuild of each survey's totals is the valid one."""

from alembic import op

revision = "0003_tally"
down_revision = "0002_identity"
branch_labels = None
depends_on = None

EPOCHS = """
CREATE SCHEMA tally;

-- allocated: the newest rebuild that was begun; installed: the newest that Redis took.
CREATE TABLE tally.epoch (
    survey_id text NOT NULL,
    allocated bigint NOT NULL,
    installed bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_epoch PRIMARY KEY (survey_id),
    CONSTRAINT ck_epoch_order CHECK (installed BETWEEN 0 AND allocated)
);

-- An epoch never falls: totals of an older one would count again what a newer one has counted.
CREATE FUNCTION tally.refuse_fall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.allocated < OLD.allocated OR NEW.installed < OLD.installed OR NEW.survey_id <> OLD.survey_id THEN
        RAISE EXCEPTION 'an epoch never falls' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER epoch_rises BEFORE UPDATE ON tally.epoch FOR EACH ROW EXECUTE FUNCTION tally.refuse_fall();

GRANT USAGE ON SCHEMA tally TO comitia_tally, comitia_surveys;
GRANT SELECT ON tally.epoch TO comitia_tally, comitia_surveys;
GRANT INSERT ON tally.epoch TO comitia_tally;
-- Machine clients read results too: who they are stands here, as it does for the surveys service
GRANT USAGE ON SCHEMA identity TO comitia_tally;
GRANT SELECT ON identity.api_client TO comitia_tally;
GRANT UPDATE (allocated, installed) ON tally.epoch TO comitia_tally;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(EPOCHS)
