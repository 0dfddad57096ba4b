"""Accounts: look-ups, claims of documents, personal data, registrations, webhooks, devices, staff, and what changed.

Nothing here holds personal data in the clear: keyed hashes (the key's id and 32 bytes), ciphertexts, ids and codes.
"""

from alembic import op

revision = "0006_accounts"
down_revision = "0005_certification"
branch_labels = None
depends_on = None

CHANGES = """
-- What was done to accounts, staff and keys, by whom and why: ids and codes only.
CREATE TABLE identity.change (
    change_id bigint GENERATED ALWAYS AS IDENTITY,
    changed_at timestamptz NOT NULL DEFAULT now(),
    subject text NOT NULL,
    change text NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    CONSTRAINT pk_change PRIMARY KEY (change_id),
    CONSTRAINT ck_change_subject CHECK (char_length(subject) BETWEEN 1 AND 200),
    CONSTRAINT ck_change_change CHECK (change ~ '^[a-z_]{1,64}$'),
    CONSTRAINT ck_change_reason CHECK (reason ~ '^[a-z0-9_ ,:=-]{0,200}$'),
    CONSTRAINT ck_change_actor CHECK (char_length(actor) BETWEEN 1 AND 64)
);
CREATE INDEX ix_change_subject ON identity.change (subject, change_id);

CREATE TRIGGER identity_change_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON identity.change
    FOR EACH STATEMENT EXECUTE FUNCTION voting.refuse_change();
"""

LOOKUPS = """
-- What an open account is found by, under every version of the key that was live; closing an account takes them away.
CREATE TABLE identity.lookup (
    kind text NOT NULL,
    key_id text NOT NULL,
    digest bytea NOT NULL,
    voter_id text NOT NULL,
    CONSTRAINT pk_lookup PRIMARY KEY (kind, key_id, digest),
    CONSTRAINT fk_lookup_voter FOREIGN KEY (voter_id) REFERENCES identity.voter (voter_id),
    CONSTRAINT ck_lookup_kind CHECK (kind IN ('mail', 'phone', 'login', 'device', 'document')),
    CONSTRAINT ck_lookup_digest CHECK (octet_length(digest) = 32)
);
CREATE INDEX ix_lookup_voter ON identity.lookup (voter_id);
"""

CLAIMS = """
-- Which person a document belongs to, here because the hash selects this cell; the voter may be at home in another.
CREATE TABLE identity.document_claim (
    key_id text NOT NULL,
    digest bytea NOT NULL,
    person_id text NOT NULL,
    home_cell text NOT NULL,
    holder text,
    settled boolean NOT NULL DEFAULT false,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_document_claim PRIMARY KEY (key_id, digest),
    CONSTRAINT ck_document_claim_digest CHECK (octet_length(digest) = 32),
    CONSTRAINT ck_document_claim_person CHECK (person_id ~ '^p_[a-z2-7]{26}$'),
    CONSTRAINT ck_document_claim_cell CHECK (home_cell ~ '^[a-z][a-z0-9]{0,15}$'),
    CONSTRAINT ck_document_claim_holder CHECK (holder ~ '^v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    -- What nobody holds and never led to an account names nobody: it is removed.
    CONSTRAINT ck_document_claim_names CHECK (settled OR holder IS NOT NULL)
);

CREATE FUNCTION identity.refuse_renaming() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a claim names its person for good' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER document_claim_names_for_good BEFORE UPDATE ON identity.document_claim FOR EACH ROW
WHEN ((OLD.key_id, OLD.digest, OLD.person_id, OLD.home_cell) IS DISTINCT FROM
    (NEW.key_id, NEW.digest, NEW.person_id, NEW.home_cell) OR (OLD.settled AND NOT NEW.settled))
EXECUTE FUNCTION identity.refuse_renaming();
"""

PERSONAL = """
-- A voter id is made before its account, hence no reference to one.
CREATE TABLE identity.personal_key (
    voter_id text NOT NULL,
    kek_id text,
    wrapped bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CONSTRAINT pk_personal_key PRIMARY KEY (voter_id),
    CONSTRAINT ck_personal_key_voter CHECK (voter_id ~ '^v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_personal_key_destroyed CHECK (
        (destroyed_at IS NULL AND kek_id IS NOT NULL AND wrapped IS NOT NULL)
        OR (destroyed_at IS NOT NULL AND kek_id IS NULL AND wrapped IS NULL)
    )
);
CREATE INDEX ix_personal_key_kek ON identity.personal_key (kek_id, voter_id) WHERE kek_id IS NOT NULL;

CREATE TABLE identity.personal (
    voter_id text NOT NULL,
    ciphertext bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_personal PRIMARY KEY (voter_id),
    CONSTRAINT fk_personal_key FOREIGN KEY (voter_id) REFERENCES identity.personal_key (voter_id),
    CONSTRAINT ck_personal_ciphertext CHECK (octet_length(ciphertext) <= 20000)
);

CREATE FUNCTION identity.refuse_revival() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a destroyed key stays destroyed' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER personal_key_stays_destroyed BEFORE UPDATE OR DELETE ON identity.personal_key FOR EACH ROW
WHEN (OLD.destroyed_at IS NOT NULL) EXECUTE FUNCTION identity.refuse_revival();
"""

REGISTRATIONS = """
CREATE TABLE identity.registration (
    registration_id text NOT NULL,
    voter_id text NOT NULL,
    region text NOT NULL,
    stage text NOT NULL DEFAULT 'contact_proof',
    revision integer NOT NULL DEFAULT 0,
    case_no integer NOT NULL DEFAULT 0,
    provider text NOT NULL DEFAULT '',
    reference text NOT NULL DEFAULT '',
    reasons text[] NOT NULL DEFAULT '{}',
    staff_reasons text[] NOT NULL DEFAULT '{}',
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_registration PRIMARY KEY (registration_id),
    CONSTRAINT uq_registration_voter UNIQUE (voter_id),
    CONSTRAINT ck_registration_id CHECK (registration_id ~ '^r_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_registration_voter CHECK (voter_id ~ '^v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_registration_region CHECK (char_length(region) BETWEEN 1 AND 64),
    CONSTRAINT ck_registration_stage CHECK (stage IN (
        'contact_proof', 'proofing', 'review', 'retry', 'activation', 'active', 'rejected', 'refused', 'expired',
        'cancelled'
    )),
    CONSTRAINT ck_registration_numbers CHECK (revision >= 0 AND case_no >= 0),
    CONSTRAINT ck_registration_provider CHECK (provider ~ '^[a-z0-9_-]{0,32}$' AND char_length(reference) <= 200),
    CONSTRAINT ck_registration_reasons CHECK (cardinality(reasons) <= 64 AND cardinality(staff_reasons) <= 64)
);
-- Of which no process has said anything: its start may be lost.
CREATE INDEX ix_registration_unstarted ON identity.registration (created_at) WHERE revision = 0;

-- Every case that was opened at a provider: of an appeal another one, and each is to be erased there in the end.
CREATE TABLE identity.proofing_case (
    registration_id text NOT NULL,
    case_no integer NOT NULL,
    provider text NOT NULL,
    reference text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    erased_at timestamptz,
    CONSTRAINT pk_proofing_case PRIMARY KEY (registration_id, case_no),
    CONSTRAINT uq_proofing_case_reference UNIQUE (provider, reference),
    CONSTRAINT fk_proofing_case_registration FOREIGN KEY (registration_id)
        REFERENCES identity.registration (registration_id),
    CONSTRAINT ck_proofing_case_no CHECK (case_no > 0),
    CONSTRAINT ck_proofing_case_provider CHECK (provider ~ '^[a-z0-9_-]{1,32}$'),
    CONSTRAINT ck_proofing_case_reference CHECK (char_length(reference) BETWEEN 1 AND 200)
);
"""

WEBHOOKS = """
-- Stored before it is answered; the body is encrypted, and gone once it is handled.
CREATE TABLE identity.webhook (
    webhook_id bigint GENERATED ALWAYS AS IDENTITY,
    vendor text NOT NULL,
    delivery_id text NOT NULL,
    case_id text NOT NULL,
    kind text NOT NULL,
    sent_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    key_id text NOT NULL,
    body bytea,
    taken_until timestamptz NOT NULL DEFAULT '-infinity',
    attempts integer NOT NULL DEFAULT 0,
    handled_at timestamptz,
    CONSTRAINT pk_webhook PRIMARY KEY (webhook_id),
    CONSTRAINT uq_webhook_delivery UNIQUE (vendor, delivery_id),
    CONSTRAINT ck_webhook_vendor CHECK (vendor ~ '^[a-z0-9_-]{1,32}$'),
    CONSTRAINT ck_webhook_event CHECK (char_length(case_id) <= 200 AND char_length(kind) <= 200),
    CONSTRAINT ck_webhook_delivery CHECK (char_length(delivery_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_webhook_body CHECK (octet_length(body) <= 65536 + 64),
    CONSTRAINT ck_webhook_waiting CHECK ((handled_at IS NULL) = (body IS NOT NULL))
);
CREATE INDEX ix_webhook_waiting ON identity.webhook (taken_until, webhook_id) WHERE handled_at IS NULL;
CREATE INDEX ix_webhook_handled ON identity.webhook (handled_at) WHERE handled_at IS NOT NULL;
"""

DEVICES = """
CREATE TABLE identity.device_sighting (
    key_id text NOT NULL,
    digest bytea NOT NULL,
    voter_id text NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    CONSTRAINT pk_device_sighting PRIMARY KEY (key_id, digest, voter_id),
    CONSTRAINT ck_device_sighting_digest CHECK (octet_length(digest) = 32),
    CONSTRAINT ck_device_sighting_voter CHECK (voter_id ~ '^v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_device_sighting_seen CHECK (first_seen <= last_seen)
);
CREATE INDEX ix_device_sighting_voter ON identity.device_sighting (voter_id, key_id);
"""

STAFF = """
CREATE TABLE identity.staff (
    staff_id text NOT NULL,
    roles text[] NOT NULL,
    first boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    CONSTRAINT pk_staff PRIMARY KEY (staff_id),
    CONSTRAINT ck_staff_id CHECK (staff_id ~ '^u_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_staff_roles CHECK (
        cardinality(roles) BETWEEN 1 AND 4 AND roles <@ ARRAY['admin', 'support', 'compliance', 'auditor']
    )
);
-- The first administrator is made once, whoever asks at once.
CREATE UNIQUE INDEX uq_staff_first ON identity.staff (first) WHERE first;

CREATE TABLE identity.staff_login (
    kind text NOT NULL,
    key_id text NOT NULL,
    digest bytea NOT NULL,
    staff_id text NOT NULL,
    CONSTRAINT pk_staff_login PRIMARY KEY (kind, key_id, digest),
    CONSTRAINT fk_staff_login_staff FOREIGN KEY (staff_id) REFERENCES identity.staff (staff_id),
    CONSTRAINT ck_staff_login_kind CHECK (kind IN ('mail', 'login')),
    CONSTRAINT ck_staff_login_digest CHECK (octet_length(digest) = 32)
);
CREATE INDEX ix_staff_login_staff ON identity.staff_login (staff_id);
"""

GRANTS = """
GRANT SELECT, INSERT ON identity.change TO comitia_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.lookup TO comitia_identity;
GRANT SELECT, INSERT, DELETE ON identity.document_claim TO comitia_identity;
GRANT UPDATE (holder, settled) ON identity.document_claim TO comitia_identity;
GRANT SELECT, INSERT, UPDATE ON identity.personal_key TO comitia_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.personal TO comitia_identity;
GRANT SELECT, INSERT, UPDATE ON identity.registration, identity.proofing_case TO comitia_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.webhook, identity.device_sighting TO comitia_identity;
GRANT SELECT, INSERT ON identity.staff TO comitia_identity;
GRANT SELECT, INSERT, DELETE ON identity.staff_login TO comitia_identity;
GRANT UPDATE (staff_id) ON identity.staff_login TO comitia_identity;
GRANT UPDATE (roles, disabled_at) ON identity.staff TO comitia_identity;

-- Whoever rotates keys wraps these anew without seeing one, and says so.
GRANT SELECT (voter_id, kek_id, wrapped), UPDATE (kek_id, wrapped) ON identity.personal_key TO comitia_surveys;
GRANT INSERT ON identity.change TO comitia_surveys;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (
        CHANGES,
        LOOKUPS,
        CLAIMS,
        PERSONAL,
        REGISTRATIONS,
        WEBHOOKS,
        DEVICES,
        STAFF,
        GRANTS,
    ):
        op.execute(statements)
