"""What entries of the audit log are found by: a search that can be made anew out of what is sealed."""

from alembic import op

revision = "0018_log_search"
down_revision = "0017_own_roles"
branch_labels = None
depends_on = None

# What the search of the log finds entries by, out of what is sealed: `comitia audit reindex` makes it anew. Batches of
# votes are not in it. `search_mark` says up to which place it is complete.
SEARCH = """
CREATE TABLE audit.search (
    leaf_index bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    kind text NOT NULL,
    actor text NOT NULL,
    subject text NOT NULL,
    CONSTRAINT pk_search PRIMARY KEY (leaf_index)
);
CREATE INDEX ix_search_kind ON audit.search (kind, leaf_index);
CREATE INDEX ix_search_actor ON audit.search (actor, leaf_index);
CREATE INDEX ix_search_subject ON audit.search (subject, leaf_index);
CREATE INDEX ix_search_occurred_at ON audit.search (occurred_at);

CREATE TABLE audit.search_mark (
    is_only boolean NOT NULL DEFAULT true,
    indexed bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_search_mark PRIMARY KEY (is_only),
    CONSTRAINT ck_search_mark_one CHECK (is_only),
    CONSTRAINT ck_search_mark_indexed CHECK (indexed >= 0)
);
INSERT INTO audit.search_mark DEFAULT VALUES;

GRANT SELECT, INSERT, DELETE ON audit.search TO comitia_audit;
GRANT SELECT, INSERT, UPDATE ON audit.search_mark TO comitia_audit;
GRANT USAGE ON SCHEMA audit TO comitia_search;
GRANT SELECT ON audit.search, audit.search_mark TO comitia_search;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(SEARCH)
