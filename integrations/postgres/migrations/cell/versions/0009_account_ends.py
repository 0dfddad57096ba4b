"""Links by which accounts are recovered, deletions of accounts, and claims by who holds them."""

from alembic import op

revision = "0009_account_ends"
down_revision = "0008_logins"
branch_labels = None
depends_on = None

RECOVERIES = """
-- Of a link only the SHA-256 of its token (256 secret bits need no slow hash). The newest one of a voter counts.
CREATE TABLE identity.recovery (
    request_id text NOT NULL,
    voter_id text NOT NULL,
    token_hash bytea NOT NULL,
    asked_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CONSTRAINT pk_recovery PRIMARY KEY (request_id),
    CONSTRAINT uq_recovery_token UNIQUE (token_hash),
    CONSTRAINT fk_recovery_voter FOREIGN KEY (voter_id) REFERENCES identity.voter (voter_id),
    CONSTRAINT ck_recovery_id CHECK (request_id ~ '^q_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_recovery_hash CHECK (octet_length(token_hash) = 32)
);
CREATE INDEX ix_recovery_voter ON identity.recovery (voter_id, asked_at);
CREATE INDEX ix_recovery_expires ON identity.recovery (expires_at);
"""

DELETIONS = """
-- Kept for good: what is left of an account besides its closed row, and the certificate of what was done.
CREATE TABLE identity.account_deletion (
    deletion_id text NOT NULL,
    voter_id text NOT NULL,
    stage text NOT NULL DEFAULT 'requested',
    requested_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    sessions_ended integer NOT NULL DEFAULT 0,
    cases_erased integer NOT NULL DEFAULT 0,
    devices_erased integer NOT NULL DEFAULT 0,
    credentials_removed integer NOT NULL DEFAULT 0,
    CONSTRAINT pk_account_deletion PRIMARY KEY (deletion_id),
    CONSTRAINT uq_account_deletion_voter UNIQUE (voter_id),
    CONSTRAINT fk_account_deletion_voter FOREIGN KEY (voter_id) REFERENCES identity.voter (voter_id),
    CONSTRAINT ck_account_deletion_id CHECK (deletion_id ~ '^d_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_account_deletion_stage CHECK (stage IN ('requested', 'stopped', 'closed', 'completed')),
    CONSTRAINT ck_account_deletion_completed CHECK ((stage = 'completed') = (completed_at IS NOT NULL)),
    CONSTRAINT ck_account_deletion_counts CHECK (
        sessions_ended >= 0 AND cases_erased >= 0 AND devices_erased >= 0 AND credentials_removed >= 0
    )
);
CREATE INDEX ix_account_deletion_unstarted ON identity.account_deletion (requested_at) WHERE stage = 'requested';
"""

CLAIMS = """
CREATE INDEX ix_document_claim_holder ON identity.document_claim (holder) WHERE holder IS NOT NULL;
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.recovery TO comitia_identity;
GRANT SELECT, INSERT, UPDATE ON identity.account_deletion TO comitia_identity;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (RECOVERIES, DELETIONS, CLAIMS, GRANTS):
        op.execute(statements)
