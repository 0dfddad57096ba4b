"""When an export was cancelled: it has no file then, and gets none."""

from alembic import op

revision = "0008_cancelled_exports"
down_revision = "0007_closing_and_search"
branch_labels = None
depends_on = None

CANCELLED = """
ALTER TABLE catalogue.export ADD COLUMN cancelled_at timestamptz;
ALTER TABLE catalogue.export ADD CONSTRAINT ck_export_ended CHECK (cancelled_at IS NULL OR finished_at IS NULL);
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(CANCELLED)
