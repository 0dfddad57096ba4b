"""Which key the secret of a registration's person is made with; one that the release before began has none."""

from alembic import op

revision = "0016_registration_secrets"
down_revision = "0015_entry_writers"
branch_labels = None
depends_on = None

SECRETS = """
-- The secret itself is kept nowhere: it follows from the registration's id and this key.
ALTER TABLE identity.registration ADD COLUMN secret_key_id text NOT NULL DEFAULT '';
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(SECRETS)
