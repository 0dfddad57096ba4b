"""A role of its own for the roll of staff and for machine clients: what serves voters' logins makes neither."""

from alembic import op

revision = "0020_staffing"
down_revision = "0019_compliance"
branch_labels = None
depends_on = None

# UPDATE of `staff_id` writes what is there already: it is how an insert that meets a login learns whose it is.
STAFFING = """
GRANT USAGE ON SCHEMA identity, audit TO comitia_staffing;
GRANT SELECT, INSERT, UPDATE (disabled_at) ON identity.staff TO comitia_staffing;
GRANT SELECT, INSERT, DELETE, UPDATE (staff_id) ON identity.staff_login TO comitia_staffing;
GRANT SELECT (client_id, disabled_at), INSERT, UPDATE (disabled_at) ON identity.api_client TO comitia_staffing;
GRANT INSERT (subject, change, reason, actor) ON identity.change TO comitia_staffing;
GRANT INSERT (kind, body) ON audit.entry TO comitia_staffing;
GRANT SELECT ON audit.entry_writer TO comitia_staffing;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(STAFFING)
