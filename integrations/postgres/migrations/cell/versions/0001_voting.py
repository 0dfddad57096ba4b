"""The ledger: surveys as installed, gateways, participations, ballots, batches and their counts; audit entries."""

from alembic import op

revision = "0001_voting"
down_revision = None
branch_labels = None
depends_on = None

SCHEMAS = """
CREATE SCHEMA voting;
CREATE SCHEMA audit;

CREATE FUNCTION voting.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

-- No option can have more votes than there were ballots.
CREATE FUNCTION voting.options_fit(options jsonb, ballots integer) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT
RETURN NOT EXISTS (
    SELECT FROM jsonb_each_text(options) AS choice (option_id, votes)
    WHERE choice.votes::integer NOT BETWEEN 1 AND ballots
);
"""

SURVEYS = """
CREATE TABLE voting.survey (
    survey_id text NOT NULL,
    definition jsonb NOT NULL,
    wrapped_ballot_key bytea NOT NULL,
    start_at timestamptz,
    finish_at timestamptz,
    sealed_at timestamptz,
    installed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_survey PRIMARY KEY (survey_id),
    CONSTRAINT ck_survey_window CHECK (finish_at IS NULL OR start_at IS NULL OR finish_at >= start_at)
);
"""

LEDGER = """
CREATE TABLE voting.gateway (
    gateway_id bytea NOT NULL,
    build text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_gateway PRIMARY KEY (gateway_id),
    CONSTRAINT ck_gateway_id CHECK (octet_length(gateway_id) = 16)
);

CREATE TABLE voting.participation (
    survey_id text NOT NULL,
    nullifier bytea NOT NULL,
    region text NOT NULL,
    evidence bytea NOT NULL,
    key_mac bytea NOT NULL,
    CONSTRAINT uq_participation_survey_nullifier UNIQUE (survey_id, nullifier),
    CONSTRAINT ck_participation_nullifier CHECK (octet_length(nullifier) = 32),
    CONSTRAINT ck_participation_evidence CHECK (octet_length(evidence) = 64),
    CONSTRAINT ck_participation_region CHECK (char_length(region) BETWEEN 1 AND 64),
    CONSTRAINT ck_participation_key_mac CHECK (octet_length(key_mac) IN (0, 32))
);

CREATE TABLE voting.batch (
    gateway_id bytea NOT NULL,
    number bigint NOT NULL,
    input_digest bytea NOT NULL,
    outcomes bytea NOT NULL,
    participations_root bytea NOT NULL,
    ballots_root bytea NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    accepted_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_batch PRIMARY KEY (gateway_id, number),
    CONSTRAINT fk_batch_gateway FOREIGN KEY (gateway_id) REFERENCES voting.gateway (gateway_id),
    CONSTRAINT ck_batch_number CHECK (number > 0),
    CONSTRAINT ck_batch_digests CHECK (
        octet_length(input_digest) = 32 AND octet_length(participations_root) = 32 AND octet_length(ballots_root) = 32
    )
);
CREATE INDEX ix_batch_xid ON voting.batch (xid);

-- No key into participation, no order and no time: ballot_id is random and rows come shuffled.
CREATE TABLE voting.ballot (
    survey_id text NOT NULL,
    ballot_id uuid NOT NULL,
    gateway_id bytea NOT NULL,
    number bigint NOT NULL,
    sealed bytea NOT NULL,
    CONSTRAINT pk_ballot PRIMARY KEY (survey_id, ballot_id),
    CONSTRAINT ck_ballot_sealed CHECK (octet_length(sealed) BETWEEN 30 AND 4096)
);

CREATE TABLE voting.batch_count (
    gateway_id bytea NOT NULL,
    number bigint NOT NULL,
    survey_id text NOT NULL,
    region text NOT NULL,
    ballots integer NOT NULL,
    options jsonb NOT NULL,
    CONSTRAINT pk_batch_count PRIMARY KEY (gateway_id, number, survey_id, region),
    CONSTRAINT fk_batch_count_batch FOREIGN KEY (gateway_id, number) REFERENCES voting.batch (gateway_id, number),
    CONSTRAINT ck_batch_count_ballots CHECK (ballots > 0),
    CONSTRAINT ck_batch_count_options CHECK (voting.options_fit(options, ballots))
);
CREATE INDEX ix_batch_count_survey ON voting.batch_count (survey_id);
"""

SESSIONS = """
-- Encrypted under a secret that only the voter's answerId holds; of that id only a hash stands here.
CREATE TABLE voting.answer_session (
    session_hash bytea NOT NULL,
    survey_id text NOT NULL,
    nullifier bytea NOT NULL,
    state bytea NOT NULL,
    initialized_at timestamptz NOT NULL DEFAULT now(),
    finishing_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT pk_answer_session PRIMARY KEY (session_hash),
    CONSTRAINT ck_answer_session_hash CHECK (octet_length(session_hash) = 32),
    CONSTRAINT ck_answer_session_state CHECK (octet_length(state) <= 16384)
);
CREATE INDEX ix_answer_session_nullifier ON voting.answer_session (survey_id, nullifier);
CREATE INDEX ix_answer_session_initialized_at ON voting.answer_session (initialized_at);
"""

AUDIT = """
CREATE TABLE audit.entry (
    entry_id uuid NOT NULL DEFAULT gen_random_uuid(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL,
    body jsonb NOT NULL,
    CONSTRAINT pk_entry PRIMARY KEY (entry_id),
    CONSTRAINT ck_entry_body CHECK (octet_length(body::text) <= 65536)
);
CREATE INDEX ix_entry_xid ON audit.entry (xid);
"""

APPEND_ONLY = (
    "voting.gateway",
    "voting.participation",
    "voting.batch",
    "voting.ballot",
    "voting.batch_count",
    "audit.entry",
)

GRANTS = """
GRANT USAGE ON SCHEMA voting TO comitia_voting, comitia_tally, comitia_surveys;
GRANT USAGE ON SCHEMA audit TO comitia_voting;
GRANT SELECT ON ALL TABLES IN SCHEMA voting TO comitia_voting;
GRANT INSERT ON voting.gateway, voting.participation, voting.batch, voting.ballot, voting.batch_count TO comitia_voting;
GRANT INSERT, UPDATE, DELETE ON voting.answer_session TO comitia_voting;
GRANT INSERT ON audit.entry TO comitia_voting;
-- FOR SHARE asks for the right to update; one column that nothing reads is enough and harmless.
GRANT UPDATE (installed_at) ON voting.survey TO comitia_voting;
GRANT SELECT ON voting.survey, voting.gateway, voting.batch, voting.batch_count TO comitia_tally;
GRANT SELECT, INSERT, UPDATE ON voting.survey TO comitia_surveys;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (SCHEMAS, SURVEYS, LEDGER, SESSIONS, AUDIT):
        op.execute(statements)
    for table in APPEND_ONLY:
        name = table.replace(".", "_")
        op.execute(
            f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION voting.refuse_change()"
        )
    op.execute(GRANTS)
