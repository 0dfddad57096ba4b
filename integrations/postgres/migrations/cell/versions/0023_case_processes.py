"""Which processes the entries of a case name: ids alone, by a function of their owner."""

from alembic import op

revision = "0023_case_processes"
down_revision = "0022_rolls"
branch_labels = None
depends_on = None

# What lifts a lock or unmasks a field runs as a process of its own, and nothing but the entry says of which case. Of
# what was asked and not taken there may be a process or none.
ASKED = """
CREATE FUNCTION audit.processes_of(subject text) RETURNS TABLE (kind text, request text, has_run boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT named.kind, named.request, bool_or(named.has_run) FROM (
        SELECT
            CASE entry.kind
                WHEN 'case.unmasking' THEN 'unmasking'
                WHEN 'case.action_asked' THEN split_part(entry.body ->> 'outcome', ':', 1)
                ELSE entry.body -> 'facts' ->> 'action'
            END AS kind,
            coalesce(entry.body -> 'facts' ->> 'unmasking', entry.body -> 'facts' ->> 'request') AS request,
            entry.kind <> 'case.action_asked' AS has_run
        FROM audit.entry
        WHERE entry.body ->> 'subject' = processes_of.subject AND entry.kind <> 'votes.recorded' AND (
            entry.kind IN ('case.unmasking', 'case.action_asked')
            OR entry.kind = 'case.action_taken' AND entry.body ->> 'outcome' = 'done'
        )
    ) AS named
    GROUP BY named.kind, named.request ORDER BY named.kind, named.request;
END;
REVOKE ALL ON FUNCTION audit.processes_of(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.processes_of(text) TO comitia_identity;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(ASKED)
