"""Audit entries of identity, and the place of every entry in the log that is sealed."""

from alembic import op

revision = "0010_audit_log"
down_revision = "0009_account_ends"
branch_labels = None
depends_on = None

LEAVES = """
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
CREATE TRIGGER audit_leaf_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.leaf
    FOR EACH STATEMENT EXECUTE FUNCTION voting.refuse_change();
"""

# A log holds entries of up to 64 KiB, its envelope included; those of before are far below.
BODIES = """
ALTER TABLE audit.entry ADD CONSTRAINT ck_entry_fits CHECK (octet_length(body::text) <= 32768) NOT VALID;
"""

GRANTS = """
GRANT USAGE ON SCHEMA audit TO comitia_identity, comitia_audit;
-- By column: whoever chose the transaction's number could have an entry passed over.
REVOKE INSERT ON audit.entry FROM comitia_voting;
GRANT INSERT (kind, body) ON audit.entry TO comitia_voting, comitia_identity;
GRANT SELECT ON audit.entry, audit.leaf TO comitia_audit;
GRANT INSERT ON audit.leaf TO comitia_audit;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (LEAVES, BODIES, GRANTS):
        op.execute(statements)
