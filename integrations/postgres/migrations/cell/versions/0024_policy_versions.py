"""Under which version of the policy a registration is; of one that the release before noted last that is not known."""

from alembic import op

revision = "0024_policy_versions"
down_revision = "0023_case_processes"
branch_labels = None
depends_on = None

VERSIONS = """
ALTER TABLE identity.registration ADD COLUMN policy_version integer NOT NULL DEFAULT 0;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(VERSIONS)
