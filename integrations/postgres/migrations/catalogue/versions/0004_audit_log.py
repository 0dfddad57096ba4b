"""Audit entries of what staff do with surveys and what becomes of keys, and their places in the catalogue's log."""

from alembic import op

revision = "0004_audit_log"
down_revision = "0003_certification"
branch_labels = None
depends_on = None

TABLES = """
CREATE SCHEMA audit;

CREATE TABLE audit.entry (
    entry_id uuid NOT NULL DEFAULT gen_random_uuid(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL,
    body jsonb NOT NULL,
    CONSTRAINT pk_entry PRIMARY KEY (entry_id),
    CONSTRAINT ck_entry_fits CHECK (octet_length(body::text) <= 32768)
);
CREATE INDEX ix_entry_xid ON audit.entry (xid);

-- No foreign key: that a row is gone is for the log to say, not for a constraint that its destroyer takes away first.
CREATE TABLE audit.leaf (
    leaf_index bigint NOT NULL,
    entry_id uuid NOT NULL,
    xid xid8 NOT NULL,
    leaf_hash bytea NOT NULL,
    CONSTRAINT pk_leaf PRIMARY KEY (leaf_index),
    CONSTRAINT uq_leaf_entry UNIQUE (entry_id),
    CONSTRAINT ck_leaf_index CHECK (leaf_index >= 0),
    CONSTRAINT ck_leaf_hash CHECK (octet_length(leaf_hash) = 32)
);

CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.entry
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue.refuse_change();
CREATE TRIGGER audit_leaf_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.leaf
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue.refuse_change();
"""

# What the key service did is not in any transaction of ours: this is, and keeps an entry from being written twice.
KEY_EVENTS = """
CREATE TABLE catalogue.key_event (
    key_id text NOT NULL,
    event text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_key_event PRIMARY KEY (key_id, event),
    CONSTRAINT ck_key_event CHECK (event IN ('made', 'destroyed'))
);
CREATE TRIGGER key_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue.key_event
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue.refuse_change();
"""

GRANTS = """
GRANT USAGE ON SCHEMA audit TO comitia_surveys, comitia_audit;
-- By column: whoever chose the transaction's number could have an entry passed over.
GRANT INSERT (kind, body) ON audit.entry TO comitia_surveys;
GRANT SELECT, INSERT ON catalogue.key_event TO comitia_surveys;
GRANT SELECT ON audit.entry, audit.leaf TO comitia_audit;
GRANT INSERT ON audit.leaf TO comitia_audit;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (TABLES, KEY_EVENTS, GRANTS):
        op.execute(statements)
