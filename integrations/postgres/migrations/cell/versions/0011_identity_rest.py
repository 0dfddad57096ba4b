"""Device events that were used, logins at identity providers by their provider, and what people are told by mail."""

from alembic import op

revision = "0011_identity_rest"
down_revision = "0010_audit_log"
branch_labels = None
depends_on = None

DEVICE_EVENTS = """
-- Events of the vendor's that came with a request, each good for one: the SHA-256 of the event's id, and the id of the
-- request. Forgotten soon after no policy takes the event any more.
CREATE TABLE identity.device_event (
    event_hash bytea NOT NULL,
    used_for text NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_device_event PRIMARY KEY (event_hash),
    CONSTRAINT ck_device_event_hash CHECK (octet_length(event_hash) = 32),
    CONSTRAINT ck_device_event_used_for CHECK (char_length(used_for) BETWEEN 1 AND 128)
);
CREATE INDEX ix_device_event_used_at ON identity.device_event (used_at);

-- What the newest event said against the device.
ALTER TABLE identity.device_sighting ADD COLUMN flags text[] NOT NULL DEFAULT '{}';
"""

PROVIDERS = """
-- A login at an identity provider is begun here, looked for in the other cells, and linked only then. Rows of before
-- have no provider, and count as linked.
ALTER TABLE identity.lookup ADD COLUMN provider text NOT NULL DEFAULT '';
ALTER TABLE identity.lookup ADD COLUMN begun_at timestamptz;
ALTER TABLE identity.lookup ADD COLUMN linked_at timestamptz;
ALTER TABLE identity.lookup ADD CONSTRAINT ck_lookup_provider CHECK (
    provider = '' OR (kind = 'login' AND begun_at IS NOT NULL AND provider ~ '^[a-z0-9_-]{1,32}$')
) NOT VALID;
CREATE INDEX ix_lookup_begun ON identity.lookup (begun_at) WHERE provider <> '' AND linked_at IS NULL;
"""

NOTICES = """
-- What somebody is to be told by mail, kept in the transaction that it is about; gone once it is sent.
CREATE TABLE identity.account_notice (
    notice_id bigint GENERATED ALWAYS AS IDENTITY,
    voter_id text NOT NULL,
    notice text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    taken_until timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT pk_account_notice PRIMARY KEY (notice_id),
    CONSTRAINT ck_account_notice_voter CHECK (voter_id ~ '^v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_account_notice_notice CHECK (notice ~ '^[a-z_]{1,64}$')
);
CREATE INDEX ix_account_notice_waiting ON identity.account_notice (taken_until, notice_id);
"""

DELETIONS = """
-- Deletions whose process may have been ended from outside; completed ones are many, and these are few.
CREATE INDEX ix_account_deletion_unfinished ON identity.account_deletion (deletion_id) WHERE stage <> 'completed';
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.device_event, identity.account_notice TO comitia_identity;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (DEVICE_EVENTS, PROVIDERS, NOTICES, DELETIONS, GRANTS):
        op.execute(statements)
