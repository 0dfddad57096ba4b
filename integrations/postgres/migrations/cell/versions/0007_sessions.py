"""Sessions: who is logged in where, refresh tokens by hash, credentials, codes, and logins that are under way."""

from alembic import op

revision = "0007_sessions"
down_revision = "0006_accounts"
branch_labels = None
depends_on = None

SESSIONS = """
-- A login on one client, bound to the client's key for its whole life.
CREATE TABLE identity.session (
    session_id text NOT NULL,
    voter_id text NOT NULL,
    jkt text NOT NULL,
    method text NOT NULL,
    device text NOT NULL,
    network text NOT NULL,
    assurance text NOT NULL,
    risk text NOT NULL,
    provider text NOT NULL,
    provider_session bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text,
    CONSTRAINT pk_session PRIMARY KEY (session_id),
    CONSTRAINT fk_session_voter FOREIGN KEY (voter_id) REFERENCES identity.voter (voter_id),
    CONSTRAINT ck_session_id CHECK (session_id ~ '^ss_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_session_jkt CHECK (char_length(jkt) = 43),
    CONSTRAINT ck_session_method CHECK (method ~ '^[a-z_]{1,32}$'),
    CONSTRAINT ck_session_device CHECK (char_length(device) IN (0, 43)),
    CONSTRAINT ck_session_network CHECK (char_length(network) <= 64),
    CONSTRAINT ck_session_assurance CHECK (assurance IN ('none', 'low', 'substantial', 'high')),
    CONSTRAINT ck_session_risk CHECK (risk IN ('low', 'medium', 'high')),
    CONSTRAINT ck_session_provider CHECK (provider ~ '^[a-z0-9_-]{0,32}$'),
    CONSTRAINT ck_session_provider_session CHECK (octet_length(provider_session) = 32),
    CONSTRAINT ck_session_end CHECK ((ended_at IS NULL) = (end_reason IS NULL) AND end_reason ~ '^[a-z_]{1,64}$')
);
CREATE INDEX ix_session_voter ON identity.session (voter_id, last_used_at) WHERE ended_at IS NULL;
CREATE INDEX ix_session_provider ON identity.session (provider, provider_session)
    WHERE ended_at IS NULL AND provider_session IS NOT NULL;
-- What every process asks for: which sessions ended a moment ago.
CREATE INDEX ix_session_ended ON identity.session (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX ix_session_expires ON identity.session (expires_at);

-- Of a token only its SHA-256 (256 random bits need no slow hash). The successor of a used token is an HMAC of `seed`
-- under the token itself, so that it can be told again to whoever has that token and to nobody else.
CREATE TABLE identity.refresh_token (
    token_hash bytea NOT NULL,
    session_id text NOT NULL,
    generation integer NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    seed bytea,
    CONSTRAINT pk_refresh_token PRIMARY KEY (token_hash),
    CONSTRAINT uq_refresh_token_generation UNIQUE (session_id, generation),
    CONSTRAINT fk_refresh_token_session FOREIGN KEY (session_id) REFERENCES identity.session (session_id)
        ON DELETE CASCADE,
    CONSTRAINT ck_refresh_token_hash CHECK (octet_length(token_hash) = 32),
    CONSTRAINT ck_refresh_token_generation CHECK (generation > 0),
    CONSTRAINT ck_refresh_token_seed CHECK (
        seed IS NULL OR (octet_length(seed) = 32 AND used_at IS NOT NULL)
    )
);

-- Logout tokens of identity providers that were obeyed; each is obeyed once.
CREATE TABLE identity.logout_token (
    provider text NOT NULL,
    jti_hash bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_logout_token PRIMARY KEY (provider, jti_hash),
    CONSTRAINT ck_logout_token_hash CHECK (octet_length(jti_hash) = 32)
);
CREATE INDEX ix_logout_token_received ON identity.logout_token (received_at);
"""

CREDENTIALS = """
-- A password is an Argon2id hash; secrets of TOTP and public keys of passkeys are encrypted under the voter's key;
-- of a recovery code there is a SHA-256. A voter id is made before its account, hence no reference to one.
CREATE TABLE identity.credential (
    credential_id uuid NOT NULL DEFAULT gen_random_uuid(),
    voter_id text NOT NULL,
    kind text NOT NULL,
    secret bytea NOT NULL,
    handle bytea,
    counter bigint NOT NULL DEFAULT 0,
    confirmed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    last_failed_at timestamptz,
    CONSTRAINT pk_credential PRIMARY KEY (credential_id),
    CONSTRAINT ck_credential_voter CHECK (voter_id ~ '^v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_credential_kind CHECK (kind IN ('password', 'passkey', 'totp', 'recovery_code')),
    CONSTRAINT ck_credential_secret CHECK (octet_length(secret) BETWEEN 1 AND 4096),
    CONSTRAINT ck_credential_handle CHECK (
        (kind IN ('passkey', 'recovery_code')) = (handle IS NOT NULL) AND octet_length(handle) = 32
    ),
    CONSTRAINT ck_credential_numbers CHECK (counter >= 0 AND failures >= 0)
);
-- One password and one authenticator app each; a passkey is one account's.
CREATE UNIQUE INDEX uq_credential_single ON identity.credential (voter_id, kind) WHERE kind IN ('password', 'totp');
CREATE UNIQUE INDEX uq_credential_handle ON identity.credential (kind, handle) WHERE handle IS NOT NULL;
CREATE INDEX ix_credential_voter ON identity.credential (voter_id);

-- Codes sent by mail or SMS, as keyed hashes.
CREATE TABLE identity.sent_code (
    subject text NOT NULL,
    digest bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    used_at timestamptz,
    CONSTRAINT pk_sent_code PRIMARY KEY (subject),
    CONSTRAINT ck_sent_code_subject CHECK (char_length(subject) BETWEEN 1 AND 128),
    CONSTRAINT ck_sent_code_digest CHECK (octet_length(digest) = 32),
    CONSTRAINT ck_sent_code_tries CHECK (tries >= 0)
);
CREATE INDEX ix_sent_code_expires ON identity.sent_code (expires_at);

-- A login at an identity provider or by passkey that was begun: the state or challenge by its SHA-256, good once.
CREATE TABLE identity.login_transaction (
    state_hash bytea NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    secret bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT pk_login_transaction PRIMARY KEY (state_hash),
    CONSTRAINT ck_login_transaction_hash CHECK (octet_length(state_hash) = 32),
    CONSTRAINT ck_login_transaction_kind CHECK (kind ~ '^[a-z_]{1,32}$'),
    CONSTRAINT ck_login_transaction_subject CHECK (char_length(subject) BETWEEN 1 AND 128),
    CONSTRAINT ck_login_transaction_secret CHECK (octet_length(secret) = 32)
);
CREATE INDEX ix_login_transaction_expires ON identity.login_transaction (expires_at);
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.session, identity.refresh_token, identity.logout_token,
    identity.credential, identity.sent_code, identity.login_transaction TO comitia_identity;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (SESSIONS, CREDENTIALS, GRANTS):
        op.execute(statements)
