"""Exports in the order that they were asked for in, for a list of them."""

from alembic import op

revision = "0010_newest_exports"
down_revision = "0009_corrections"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("CREATE INDEX ix_export_requested ON catalogue.export (requested_at DESC, export_id DESC)")
