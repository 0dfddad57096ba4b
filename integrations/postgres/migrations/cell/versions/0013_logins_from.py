"""Since when a voter's logins open sessions: after a recovery, or a change of credentials, older ones open none."""

from alembic import op

revision = "0013_logins_from"
down_revision = "0012_archive"
branch_labels = None
depends_on = None

LOGINS_FROM = """
-- Kept with the account, whose row whoever opens a session reads under its lock: so it is read as it is by then.
ALTER TABLE identity.voter ADD COLUMN logins_from timestamptz;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(LOGINS_FROM)
