"""What compliance keeps of replays: ids, codes and counts; and the proof of one participation for its evidence."""

from alembic import op

revision = "0019_compliance"
down_revision = "0018_log_search"
branch_labels = None
depends_on = None

REPLAYS = """
CREATE TABLE identity.replay (
    replay_id text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    request jsonb NOT NULL,
    stage text NOT NULL DEFAULT 'running',
    steps bigint NOT NULL DEFAULT 0,
    judged_until timestamptz,
    same bigint NOT NULL DEFAULT 0,
    different bigint NOT NULL DEFAULT 0,
    cannot bigint NOT NULL DEFAULT 0,
    ended_at timestamptz,
    CONSTRAINT pk_replay PRIMARY KEY (replay_id),
    CONSTRAINT ck_replay_stage CHECK (stage IN ('running', 'finished', 'cancelled')),
    CONSTRAINT ck_replay_ended CHECK ((stage = 'running') = (ended_at IS NULL))
);
CREATE INDEX ix_replay_asked ON identity.replay (asked_at DESC, replay_id DESC);

CREATE TABLE identity.replay_verdict (
    replay_id text NOT NULL,
    number bigint NOT NULL,
    verdict text NOT NULL,
    document jsonb NOT NULL,
    CONSTRAINT pk_replay_verdict PRIMARY KEY (replay_id, number),
    CONSTRAINT fk_replay_verdict_replay FOREIGN KEY (replay_id) REFERENCES identity.replay (replay_id)
        ON DELETE CASCADE,
    CONSTRAINT ck_replay_verdict_number CHECK (number > 0),
    CONSTRAINT ck_replay_verdict_verdict CHECK (verdict IN ('same', 'different', 'cannot'))
);
CREATE INDEX ix_replay_verdict_kind ON identity.replay_verdict (replay_id, verdict, number);

GRANT SELECT, INSERT, UPDATE, DELETE ON identity.replay TO comitia_identity;
GRANT SELECT, INSERT, DELETE ON identity.replay_verdict TO comitia_identity;
"""

# Of one nullifier, which whoever asks has to know, what its voter's own receipt is made of: its row, and of the others
# of its batch the hashes of their leaves. A batch has no rows of its own here: who stands beside it was written with it
# (integrations/postgres/participations.py). `blocks` is how far to look before and behind.
PROOFS = """
CREATE FUNCTION audit.participation_proof(wanted_survey text, wanted_nullifier bytea, blocks bigint)
RETURNS TABLE (evidence bytea, region text, transaction bigint, leaf_hashes bytea[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
WITH latest AS (
    SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid
), next AS (
    SELECT xid + age((xid & 4294967295)::text::xid) AS xid FROM latest
), own AS (
    SELECT mine.evidence, mine.region, mine.nullifier,
        next.xid - (age(mine.xmin)::bigint & 4294967295) AS transaction,
        (mine.ctid::text::point)[0]::bigint AS block
    FROM voting.participation AS mine, next WHERE mine.survey_id = $1 AND mine.nullifier = $2
)
SELECT own.evidence, own.region, own.transaction, (
    SELECT array_agg(
        sha256(
            '\\x00'::bytea
            || int4send(octet_length(beside.survey_id)) || convert_to(beside.survey_id, 'UTF8')
            || int4send(octet_length(beside.nullifier)) || beside.nullifier
            || int4send(octet_length(beside.evidence)) || beside.evidence
            || int4send(octet_length(beside.region)) || convert_to(beside.region, 'UTF8')
        ) ORDER BY beside.survey_id COLLATE "C", beside.nullifier
    )
    FROM voting.participation AS beside, next
    WHERE beside.ctid >= format('(%s,0)', greatest(own.block - $3, 0))::tid
        AND beside.ctid < format('(%s,0)', least(own.block + $3 + 1, 4294967295))::tid
        AND next.xid - (age(beside.xmin)::bigint & 4294967295) = own.transaction
)
FROM own
$$;
REVOKE ALL ON FUNCTION audit.participation_proof(text, bytea, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.participation_proof(text, bytea, bigint) TO comitia_identity;
GRANT EXECUTE ON FUNCTION audit.place_of_batch(xid8) TO comitia_identity;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(REPLAYS)
    op.execute(PROOFS)
