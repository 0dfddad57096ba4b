"""The catalogue: surveys with their questions and options, what staff did to them, and exports of results."""

from alembic import op

revision = "0001_surveys"
down_revision = None
branch_labels = None
depends_on = None

SURVEYS = """
CREATE SCHEMA catalogue;

CREATE TABLE catalogue.survey (
    survey_id text NOT NULL,
    version bigint NOT NULL,
    stage text NOT NULL,
    title text NOT NULL,
    regions text[] NOT NULL,
    minimum_age integer NOT NULL,
    roll_required boolean NOT NULL,
    visibility text NOT NULL,
    minimum_step integer NOT NULL,
    start_at timestamptz,
    finish_at timestamptz,
    last_question_id integer NOT NULL,
    last_option_id integer NOT NULL,
    published_from bigint,
    finished_from bigint,
    wrapped_ballot_key bytea,
    wrapped_eligibility_key bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_survey PRIMARY KEY (survey_id),
    CONSTRAINT ck_survey_version CHECK (version > 0),
    CONSTRAINT ck_survey_stage CHECK (stage IN ('draft', 'publishing', 'published', 'finished')),
    CONSTRAINT ck_survey_minimum_age CHECK (minimum_age IN (0, 16, 18)),
    CONSTRAINT ck_survey_visibility CHECK (visibility IN ('live', 'after_close', 'staff')),
    CONSTRAINT ck_survey_minimum_step CHECK (minimum_step > 0),
    CONSTRAINT ck_survey_window CHECK (finish_at >= start_at),
    CONSTRAINT ck_survey_opened CHECK (stage IN ('draft', 'publishing') OR start_at IS NOT NULL),
    CONSTRAINT ck_survey_finished CHECK (stage <> 'finished' OR finish_at IS NOT NULL),
    CONSTRAINT ck_survey_keys CHECK (
        (wrapped_ballot_key IS NULL) = (wrapped_eligibility_key IS NULL)
        AND (stage <> 'draft' OR wrapped_ballot_key IS NULL)
        AND (stage IN ('draft', 'publishing') OR wrapped_ballot_key IS NOT NULL)
    )
);
CREATE INDEX ix_survey_listed ON catalogue.survey (created_at DESC, survey_id DESC);

CREATE TABLE catalogue.question (
    survey_id text NOT NULL,
    question_id integer NOT NULL,
    title text NOT NULL,
    description text,
    min integer NOT NULL,
    max integer NOT NULL,
    text_max integer NOT NULL,
    position integer NOT NULL,
    CONSTRAINT pk_question PRIMARY KEY (survey_id, question_id),
    CONSTRAINT fk_question_survey FOREIGN KEY (survey_id) REFERENCES catalogue.survey (survey_id) ON DELETE CASCADE,
    CONSTRAINT ck_question_bounds CHECK (0 <= min AND min <= max),
    CONSTRAINT ck_question_answerable CHECK (max > 0 OR text_max > 0),
    CONSTRAINT ck_question_text_max CHECK (text_max >= 0)
);

CREATE TABLE catalogue.option (
    survey_id text NOT NULL,
    option_id integer NOT NULL,
    question_id integer NOT NULL,
    text text NOT NULL,
    image text,
    position integer NOT NULL,
    CONSTRAINT pk_option PRIMARY KEY (survey_id, option_id),
    CONSTRAINT fk_option_question FOREIGN KEY (survey_id, question_id)
        REFERENCES catalogue.question (survey_id, question_id) ON DELETE CASCADE
);
CREATE INDEX ix_option_question ON catalogue.option (survey_id, question_id);
"""

# A question that asks for more options than it has is refused when the transaction ends.
ENOUGH_OPTIONS = """
CREATE FUNCTION catalogue.require_enough_options() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM catalogue.question
        WHERE question.survey_id = NEW.survey_id AND question.question_id = NEW.question_id
        AND question.max > (
            SELECT count(*) FROM catalogue.option
            WHERE option.survey_id = NEW.survey_id AND option.question_id = NEW.question_id
        )
    ) THEN
        RAISE EXCEPTION 'question % asks for more options than it has', NEW.question_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_question_options';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER ck_question_options AFTER INSERT OR UPDATE ON catalogue.question
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalogue.require_enough_options();
"""

STAFF_ACTIONS = """
CREATE TABLE catalogue.staff_action (
    action_id bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    survey_id text NOT NULL,
    before_digest bytea,
    after_digest bytea,
    CONSTRAINT pk_staff_action PRIMARY KEY (action_id),
    CONSTRAINT ck_staff_action_actor CHECK (actor <> ''),
    CONSTRAINT ck_staff_action_action CHECK (
        action IN ('create', 'update', 'correct', 'delete', 'publish', 'finish', 'export')
    ),
    CONSTRAINT ck_staff_action_digests CHECK (
        octet_length(before_digest) = 32 AND octet_length(after_digest) = 32
    )
);
CREATE INDEX ix_staff_action_survey ON catalogue.staff_action (survey_id, action_id);

CREATE FUNCTION catalogue.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER staff_action_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue.staff_action
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue.refuse_change();
"""

EXPORTS = """
CREATE TABLE catalogue.export (
    export_id text NOT NULL,
    survey_id text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    format text NOT NULL,
    region text,
    option_id text,
    object_name text,
    sha256 bytea,
    size_bytes bigint,
    as_of timestamptz,
    missing_cells text[],
    finished_at timestamptz,
    CONSTRAINT pk_export PRIMARY KEY (export_id),
    CONSTRAINT fk_export_survey FOREIGN KEY (survey_id) REFERENCES catalogue.survey (survey_id),
    CONSTRAINT ck_export_format CHECK (format IN ('csv', 'json')),
    CONSTRAINT ck_export_sha256 CHECK (octet_length(sha256) = 32),
    CONSTRAINT ck_export_finished CHECK (
        (finished_at IS NULL) = (object_name IS NULL)
        AND (finished_at IS NULL) = (sha256 IS NULL)
        AND (finished_at IS NULL) = (size_bytes IS NULL)
    )
);
CREATE INDEX ix_export_survey ON catalogue.export (survey_id, requested_at DESC);
"""

GRANTS = """
GRANT USAGE ON SCHEMA catalogue TO comitia_surveys;
GRANT SELECT, INSERT, UPDATE, DELETE ON catalogue.survey, catalogue.question, catalogue.option TO comitia_surveys;
GRANT SELECT, INSERT ON catalogue.staff_action TO comitia_surveys;
GRANT SELECT, INSERT, UPDATE ON catalogue.export TO comitia_surveys;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (SURVEYS, ENOUGH_OPTIONS, STAFF_ACTIONS, EXPORTS, GRANTS):
        op.execute(statements)
