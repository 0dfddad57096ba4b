"""Logins: what each was judged by and how it ended, failed proofs, and the histories that they are compared with."""

from alembic import op

revision = "0008_logins"
down_revision = "0007_sessions"
branch_labels = None
depends_on = None

ATTEMPTS = """
-- A login whose proof was good. `signals` are numbers and codes; device and network are keyed hashes, the provider's
-- session is sealed under the voter's key. Without an outcome a further factor is waited for.
CREATE TABLE identity.login_attempt (
    attempt_id text NOT NULL,
    voter_id text NOT NULL,
    method text NOT NULL,
    jkt text NOT NULL,
    device bytea,
    network bytea NOT NULL,
    provider text NOT NULL,
    provider_session bytea,
    decision text NOT NULL,
    score_permille smallint NOT NULL,
    reasons text[] NOT NULL,
    policy_version integer NOT NULL,
    signals jsonb NOT NULL,
    factors text[] NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    outcome text,
    factor text,
    ended_at timestamptz,
    CONSTRAINT pk_login_attempt PRIMARY KEY (attempt_id),
    CONSTRAINT ck_login_attempt_id CHECK (attempt_id ~ '^a_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_login_attempt_voter CHECK (voter_id ~ '^v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_login_attempt_method CHECK (method ~ '^[a-z_]{1,32}$'),
    CONSTRAINT ck_login_attempt_jkt CHECK (char_length(jkt) = 43),
    CONSTRAINT ck_login_attempt_hashes CHECK (octet_length(device) = 32 AND octet_length(network) = 32),
    CONSTRAINT ck_login_attempt_provider CHECK (provider ~ '^[a-z0-9_-]{0,32}$'),
    CONSTRAINT ck_login_attempt_decision CHECK (decision IN ('ALLOW', 'CHALLENGE', 'DENY')),
    CONSTRAINT ck_login_attempt_score CHECK (score_permille BETWEEN 0 AND 1000),
    CONSTRAINT ck_login_attempt_end CHECK ((outcome IS NULL) = (ended_at IS NULL) AND outcome ~ '^[a-z_]{1,32}$')
);
CREATE INDEX ix_login_attempt_voter ON identity.login_attempt (voter_id, at);
CREATE INDEX ix_login_attempt_network ON identity.login_attempt (network, at);
CREATE INDEX ix_login_attempt_at ON identity.login_attempt USING brin (at);

-- A proof that was not good; without a voter where there is no such account.
CREATE TABLE identity.login_failure (
    failure_id bigint GENERATED ALWAYS AS IDENTITY,
    voter_id text NOT NULL,
    network bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_login_failure PRIMARY KEY (failure_id),
    CONSTRAINT ck_login_failure_voter CHECK (voter_id ~ '^(v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26})?$'),
    CONSTRAINT ck_login_failure_network CHECK (octet_length(network) = 32)
);
CREATE INDEX ix_login_failure_voter ON identity.login_failure (voter_id, at);
CREATE INDEX ix_login_failure_network ON identity.login_failure (network, at);
CREATE INDEX ix_login_failure_at ON identity.login_failure USING brin (at);
"""

HISTORY = """
-- How often a voter logged in with each value of each feature, by keyed hash; the feature `any` counts logins.
CREATE TABLE identity.login_feature (
    voter_id text NOT NULL,
    feature text NOT NULL,
    level smallint NOT NULL,
    key_id text NOT NULL,
    digest bytea NOT NULL,
    seen bigint NOT NULL,
    last_seen timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_login_feature PRIMARY KEY (voter_id, feature, level, key_id, digest),
    CONSTRAINT ck_login_feature_name CHECK (feature ~ '^[a-z]{1,16}$' AND level BETWEEN 0 AND 9),
    CONSTRAINT ck_login_feature_digest CHECK (octet_length(digest) = 32),
    CONSTRAINT ck_login_feature_seen CHECK (seen > 0)
);
CREATE INDEX ix_login_feature_last_seen ON identity.login_feature USING brin (last_seen);

-- The same of everybody. Popular values would be hot rows on the way of every login, so a login adds a row of its own,
-- and a sweep folds them together.
CREATE TABLE identity.login_feature_total (
    feature text NOT NULL,
    level smallint NOT NULL,
    key_id text NOT NULL,
    digest bytea NOT NULL,
    seen bigint NOT NULL,
    last_seen timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_login_feature_total PRIMARY KEY (feature, level, key_id, digest),
    CONSTRAINT ck_login_feature_total_digest CHECK (octet_length(digest) = 32)
);
CREATE TABLE identity.login_feature_new (
    login_id bigint GENERATED ALWAYS AS IDENTITY,
    features text[] NOT NULL,
    levels smallint[] NOT NULL,
    key_ids text[] NOT NULL,
    digests bytea[] NOT NULL,
    CONSTRAINT pk_login_feature_new PRIMARY KEY (login_id)
);

-- Where a voter's last login was, sealed under the voter's key.
CREATE TABLE identity.login_place (
    voter_id text NOT NULL,
    sealed bytea NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT pk_login_place PRIMARY KEY (voter_id),
    CONSTRAINT ck_login_place_sealed CHECK (octet_length(sealed) BETWEEN 1 AND 1024)
);
"""

GRANTS = """
GRANT SELECT, INSERT, DELETE ON identity.login_attempt, identity.login_failure, identity.login_feature,
    identity.login_feature_total, identity.login_feature_new, identity.login_place TO comitia_identity;
GRANT UPDATE (outcome, factor, ended_at) ON identity.login_attempt TO comitia_identity;
-- Of `login_feature_new` no column ever changes, but whoever folds locks the rows that it takes.
GRANT UPDATE ON identity.login_feature, identity.login_feature_total, identity.login_feature_new, identity.login_place
    TO comitia_identity;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (ATTEMPTS, HISTORY, GRANTS):
        op.execute(statements)
