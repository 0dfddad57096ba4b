"""What corrections of published surveys replaced: everybody who reads a survey sees it."""

from alembic import op

revision = "0009_corrections"
down_revision = "0008_cancelled_exports"
branch_labels = None
depends_on = None

# Question and option are 0 where the text is of the whole survey or of the whole question. Whoever manages surveys can
# add a line, and nobody takes one away.
CORRECTIONS = """
CREATE TABLE catalogue.corrected_text (
    survey_id text NOT NULL,
    version bigint NOT NULL,
    question_id integer NOT NULL,
    option_id integer NOT NULL,
    field text NOT NULL,
    before text NOT NULL,
    after text NOT NULL,
    corrected_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_corrected_text PRIMARY KEY (survey_id, version, question_id, option_id, field),
    CONSTRAINT fk_corrected_text_survey FOREIGN KEY (survey_id) REFERENCES catalogue.survey (survey_id),
    CONSTRAINT ck_corrected_text_field CHECK (field IN ('title', 'description', 'text', 'image')),
    CONSTRAINT ck_corrected_text_changed CHECK (before <> after)
);
CREATE TRIGGER corrected_text_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue.corrected_text
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue.refuse_change();
GRANT SELECT, INSERT ON catalogue.corrected_text TO comitia_surveys;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(CORRECTIONS)
