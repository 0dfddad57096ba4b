"""A role of its own for electoral rolls: what serves voters' logins puts nobody on one."""

from alembic import op

revision = "0022_rolls"
down_revision = "0021_console"
branch_labels = None
depends_on = None

# UPDATE of `settled` makes a claim name its person for good; whom it names is not changed by it.
ROLLS = """
GRANT USAGE ON SCHEMA identity, audit TO comitia_rolls;
GRANT SELECT, INSERT ON identity.roll TO comitia_rolls;
GRANT SELECT (voter_id, person_id) ON identity.voter TO comitia_rolls;
GRANT SELECT (person_id), INSERT (person_id) ON identity.person TO comitia_rolls;
GRANT SELECT (key_id, digest, person_id, home_cell), INSERT (key_id, digest, person_id, home_cell, settled),
    UPDATE (settled) ON identity.document_claim TO comitia_rolls;
GRANT INSERT (subject, change, reason, actor) ON identity.change TO comitia_rolls;
GRANT INSERT (kind, body) ON audit.entry TO comitia_rolls;
GRANT SELECT ON audit.entry_writer TO comitia_rolls;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(ROLLS)
