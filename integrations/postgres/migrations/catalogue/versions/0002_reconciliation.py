"""Reconciliation sees which surveys are published."""

from alembic import op

revision = "0002_reconciliation"
down_revision = "0001_surveys"
branch_labels = None
depends_on = None

GRANTS = """
GRANT USAGE ON SCHEMA catalogue TO comitia_reconciliation;
GRANT SELECT (survey_id, stage, start_at, finish_at) ON catalogue.survey TO comitia_reconciliation;
GRANT SELECT (export_id, survey_id) ON catalogue.export TO comitia_reconciliation;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(GRANTS)
