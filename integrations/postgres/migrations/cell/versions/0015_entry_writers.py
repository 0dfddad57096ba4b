"""Each role writes the audit entries that are its own, in no other's name; and when staff came in, once a session."""

from alembic import op

from integrations.postgres.entry_writers import CELL_WRITERS, install_writers

revision = "0015_entry_writers"
down_revision = "0014_proofs"
branch_labels = None
depends_on = None

WRITERS = """
CREATE TABLE audit.entry_writer (
    role text NOT NULL,
    kind text NOT NULL,
    actor text NOT NULL,
    CONSTRAINT pk_entry_writer PRIMARY KEY (role, kind, actor)
);

-- Of the session's user: whoever logs in as a role cannot become another. It reads as that role, which may create
-- nothing in this database that could stand in the way of a name or an operator.
CREATE FUNCTION audit.refuse_foreign_entry() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named text := coalesce(NEW.body ->> 'actor', '');
BEGIN
    IF NOT EXISTS (
        SELECT FROM audit.entry_writer AS writer
        WHERE writer.role = session_user::text AND writer.kind = NEW.kind
            AND writer.actor IN (named, left(named, strpos(named, ':')) || '*')
    ) THEN
        RAISE EXCEPTION '% writes no audit entry of kind "%" by "%"', session_user, NEW.kind, left(named, 96)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
"""

# The owner serves nothing; it puts back what somebody else took away. What the vote path writes once a batch is let
# through here, without a call or a look, which would cost each batch 20 us. What was written before stays as it is.
TRIGGER = """
CREATE TRIGGER audit_entry_of_its_writer BEFORE INSERT ON audit.entry FOR EACH ROW WHEN (
    session_user <> 'comitia_owner' AND (
        NEW.kind <> 'votes.recorded' OR session_user <> 'comitia_voting' OR NEW.body ->> 'actor' IS NOT NULL
    )
) EXECUTE FUNCTION audit.refuse_foreign_entry();
"""

# Keeps an entry from being written twice.
SIGN_INS = """
CREATE TABLE audit.staff_sign_in (
    digest bytea NOT NULL,
    CONSTRAINT pk_staff_sign_in PRIMARY KEY (digest),
    CONSTRAINT ck_staff_sign_in_digest CHECK (octet_length(digest) = 32)
);
CREATE TRIGGER audit_staff_sign_in_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.staff_sign_in
    FOR EACH STATEMENT EXECUTE FUNCTION voting.refuse_change();
"""

GRANTS = """
GRANT USAGE ON SCHEMA audit TO comitia_tally;
GRANT INSERT (kind, body) ON audit.entry TO comitia_tally;
GRANT SELECT ON audit.entry_writer TO comitia_voting, comitia_identity, comitia_tally;
GRANT SELECT, INSERT ON audit.staff_sign_in TO comitia_identity, comitia_tally;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(WRITERS)
    install_writers(op.get_bind(), CELL_WRITERS)
    for statements in (SIGN_INS, GRANTS, TRIGGER):
        op.execute(statements)
