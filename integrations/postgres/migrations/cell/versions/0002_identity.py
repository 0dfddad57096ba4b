"""Identity: persons, voters, electoral rolls, who each survey is for, and machine clients."""

from alembic import op

revision = "0002_identity"
down_revision = "0001_voting"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE SCHEMA identity;
"""

PEOPLE = """
-- Outlives every account: it is what makes somebody who registers again the same person.
CREATE TABLE identity.person (
    person_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_person PRIMARY KEY (person_id),
    CONSTRAINT ck_person_id CHECK (person_id ~ '^p_[a-z2-7]{26}$')
);

CREATE TABLE identity.voter (
    voter_id text NOT NULL,
    person_id text,
    status text NOT NULL DEFAULT 'registered',
    assurance text NOT NULL DEFAULT 'none',
    region text NOT NULL,
    age_class smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_voter PRIMARY KEY (voter_id),
    CONSTRAINT fk_voter_person FOREIGN KEY (person_id) REFERENCES identity.person (person_id),
    CONSTRAINT ck_voter_id CHECK (voter_id ~ '^v_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}$'),
    CONSTRAINT ck_voter_status CHECK (status IN ('registered', 'active', 'suspended', 'closed')),
    CONSTRAINT ck_voter_assurance CHECK (assurance IN ('none', 'low', 'substantial', 'high')),
    CONSTRAINT ck_voter_proofed CHECK (person_id IS NOT NULL OR assurance IN ('none', 'low')),
    CONSTRAINT ck_voter_region CHECK (char_length(region) BETWEEN 1 AND 64),
    CONSTRAINT ck_voter_age_class CHECK (age_class IN (0, 16, 18))
);
-- One open account per person; closed ones stay for as long as the law says.
CREATE UNIQUE INDEX uq_voter_person ON identity.voter (person_id) WHERE status <> 'closed';
"""

SURVEYS = """
CREATE TABLE identity.survey (
    survey_id text NOT NULL,
    regions text[] NOT NULL DEFAULT '{}',
    minimum_age smallint NOT NULL DEFAULT 0,
    roll_required boolean NOT NULL DEFAULT false,
    wrapped_eligibility_key bytea NOT NULL,
    start_at timestamptz,
    finish_at timestamptz,
    installed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_identity_survey PRIMARY KEY (survey_id),
    CONSTRAINT ck_identity_survey_minimum_age CHECK (minimum_age IN (0, 16, 18))
);

-- A roll may be imported before its survey is installed here, hence no reference to it.
CREATE TABLE identity.roll (
    survey_id text NOT NULL,
    person_id text NOT NULL,
    CONSTRAINT pk_roll PRIMARY KEY (survey_id, person_id),
    CONSTRAINT fk_roll_person FOREIGN KEY (person_id) REFERENCES identity.person (person_id)
);
"""

CLIENTS = """
-- Machine clients; of a key only its SHA-256 is kept (256 random bits need no slow hash).
CREATE TABLE identity.api_client (
    client_id text NOT NULL,
    name text NOT NULL,
    key_hash bytea NOT NULL,
    roles text[] NOT NULL,
    requests_per_minute integer NOT NULL,
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_api_client PRIMARY KEY (client_id),
    CONSTRAINT uq_api_client_key_hash UNIQUE (key_hash),
    CONSTRAINT ck_api_client_key_hash CHECK (octet_length(key_hash) = 32),
    CONSTRAINT ck_api_client_requests CHECK (requests_per_minute > 0),
    CONSTRAINT ck_api_client_name CHECK (char_length(name) BETWEEN 1 AND 200)
);
"""

GRANTS = """
GRANT USAGE ON SCHEMA identity TO comitia_identity, comitia_surveys;
GRANT SELECT, INSERT ON identity.person TO comitia_identity;
GRANT SELECT, INSERT, UPDATE ON identity.voter TO comitia_identity;
GRANT SELECT, INSERT, DELETE ON identity.roll TO comitia_identity;
GRANT SELECT, INSERT, UPDATE ON identity.api_client TO comitia_identity;
GRANT SELECT ON identity.survey TO comitia_identity;
GRANT SELECT, INSERT, UPDATE ON identity.survey TO comitia_surveys;
GRANT SELECT ON identity.api_client TO comitia_surveys;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (SCHEMA, PEOPLE, SURVEYS, CLIENTS, GRANTS):
        op.execute(statements)
