"""Roles of their own for the end of surveys, break-glass and the codec server, with what each needs and no more."""

from alembic import op

revision = "0017_own_roles"
down_revision = "0016_registration_secrets"
branch_labels = None
depends_on = None

# Keeps a step from being written down twice: not where others write, who could have one passed over.
STEPS = """
CREATE TABLE audit.unmasking_step (
    step text NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT pk_unmasking_step PRIMARY KEY (step),
    CONSTRAINT ck_unmasking_step_digest CHECK (octet_length(digest) = 32)
);
CREATE TRIGGER audit_unmasking_step_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.unmasking_step
    FOR EACH STATEMENT EXECUTE FUNCTION voting.refuse_change();
"""

UNMASKING = """
GRANT USAGE ON SCHEMA audit TO comitia_unmasking;
GRANT INSERT (kind, body) ON audit.entry TO comitia_unmasking;
GRANT SELECT ON audit.entry_writer TO comitia_unmasking;
GRANT SELECT, INSERT ON audit.unmasking_step TO comitia_unmasking;
"""

CODEC = """
GRANT USAGE ON SCHEMA audit TO comitia_codec;
GRANT INSERT (kind, body) ON audit.entry TO comitia_codec;
GRANT SELECT ON audit.entry_writer TO comitia_codec;
"""

# MAINTAIN is for the lock that waits for whoever records; it changes no row.
CLOSING = """
GRANT USAGE ON SCHEMA voting, identity, tally TO comitia_closing;
GRANT SELECT (survey_id, finish_at, sealed_at, keys_destroyed_at),
    UPDATE (sealed_at, wrapped_ballot_key, keys_destroyed_at) ON voting.survey TO comitia_closing;
GRANT MAINTAIN ON voting.survey TO comitia_closing;
GRANT SELECT (survey_id, keys_destroyed_at), UPDATE (wrapped_eligibility_key, keys_destroyed_at) ON identity.survey
    TO comitia_closing;
GRANT SELECT (survey_id, certificate_id), INSERT ON tally.certificate TO comitia_closing;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (STEPS, UNMASKING, CODEC, CLOSING):
        op.execute(statements)
