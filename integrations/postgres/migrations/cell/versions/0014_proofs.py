"""The places of audit entries for whoever proves a receipt or a decision: numbers, by functions of their owner."""

from alembic import op

revision = "0014_proofs"
down_revision = "0013_logins_from"
branch_labels = None
depends_on = None

# A process that asks learns a place in the log and reads no entry: what stands there is read from what is sealed.
PLACES = """
CREATE FUNCTION audit.place_of_batch(written_by xid8) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT leaf.leaf_index FROM audit.entry JOIN audit.leaf USING (entry_id)
    WHERE entry.xid = written_by AND entry.kind = 'votes.recorded' LIMIT 1
);
REVOKE ALL ON FUNCTION audit.place_of_batch(xid8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.place_of_batch(xid8) TO comitia_voting;

-- Batches, which are nearly all there is, name no subject and are not in it. Nothing is written while it is built.
CREATE INDEX ix_entry_subject ON audit.entry ((body ->> 'subject')) WHERE kind <> 'votes.recorded';

CREATE FUNCTION audit.places_of(subject text) RETURNS TABLE (leaf_index bigint, kind text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT leaf.leaf_index, entry.kind FROM audit.entry LEFT JOIN audit.leaf USING (entry_id)
    WHERE entry.body ->> 'subject' = places_of.subject AND entry.kind <> 'votes.recorded'
    ORDER BY leaf.leaf_index, entry.xid, entry.entry_id;
END;
REVOKE ALL ON FUNCTION audit.places_of(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.places_of(text) TO comitia_identity;
"""

# Where histories are: ids and digests, which whoever reads the store sees as well.
ARCHIVE = """
GRANT SELECT ON audit.archived_history TO comitia_identity;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (PLACES, ARCHIVE):
        op.execute(statements)
