"""A role that signs staff in at the pages of surveys, and nowhere else; and who proves who took part."""

from alembic import op

revision = "0021_console"
down_revision = "0020_staffing"
branch_labels = None
depends_on = None

# Of the logins that are under way these are the sessions of staff at the pages of surveys. Whoever has the view alone
# sees and makes no others: a session of these is good at no page of support and compliance.
SESSIONS = """
CREATE VIEW identity.surveys_session WITH (security_barrier = true) AS
    SELECT state_hash, kind, subject, secret, expires_at FROM identity.login_transaction WHERE kind = 'console_surveys'
    WITH CASCADED CHECK OPTION;
GRANT USAGE ON SCHEMA identity, audit TO comitia_console;
GRANT SELECT, INSERT, UPDATE (subject, expires_at), DELETE ON identity.surveys_session TO comitia_console;
GRANT SELECT (staff_id, roles, disabled_at) ON identity.staff TO comitia_console;
GRANT SELECT (kind, key_id, digest, staff_id) ON identity.staff_login TO comitia_console;
GRANT INSERT (kind, body) ON audit.entry TO comitia_console;
GRANT SELECT ON audit.entry_writer TO comitia_console;
"""

PROOFS = """
GRANT EXECUTE ON FUNCTION audit.participation_proof(text, bytea, bigint), audit.place_of_batch(xid8) TO comitia_search;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (SESSIONS, PROOFS):
        op.execute(statements)
