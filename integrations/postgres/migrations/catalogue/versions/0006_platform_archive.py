"""Which histories of the platform are archived and where, which are not and why, and until when that is complete."""

from alembic import op

revision = "0006_platform_archive"
down_revision = "0005_entry_writers"
branch_labels = None
depends_on = None

FILES = """
CREATE TABLE audit.archive_object (
    object text NOT NULL,
    sha256 bytea NOT NULL,
    size_bytes bigint NOT NULL,
    histories integer NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_archive_object PRIMARY KEY (object),
    CONSTRAINT ck_archive_object_sha256 CHECK (octet_length(sha256) = 32)
);
CREATE TRIGGER audit_archive_object_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.archive_object
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue.refuse_change();
"""

HISTORIES = """
CREATE TABLE audit.archived_history (
    workflow_id text NOT NULL,
    run_id text NOT NULL,
    workflow_type text NOT NULL,
    started_at timestamptz NOT NULL,
    closed_at timestamptz NOT NULL,
    object text,
    first_byte bigint,
    size_bytes bigint,
    digest bytea,
    left_out text NOT NULL DEFAULT '',
    CONSTRAINT pk_archived_history PRIMARY KEY (workflow_id, run_id),
    CONSTRAINT fk_archived_history_object FOREIGN KEY (object) REFERENCES audit.archive_object (object),
    CONSTRAINT ck_archived_history_somewhere CHECK (
        CASE WHEN object IS NULL THEN left_out <> ''
        ELSE left_out = '' AND first_byte >= 0 AND size_bytes > 0 AND octet_length(digest) = 32 END
    )
);
CREATE INDEX ix_archived_history_started ON audit.archived_history (started_at);
CREATE INDEX ix_archived_history_object ON audit.archived_history (object);
CREATE TRIGGER audit_archived_history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.archived_history
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue.refuse_change();
"""

MARKS = """
CREATE TABLE audit.archive_mark (
    complete_until timestamptz NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_archive_mark PRIMARY KEY (complete_until)
);
CREATE TRIGGER audit_archive_mark_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.archive_mark
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue.refuse_change();
"""

GRANTS = """
GRANT SELECT, INSERT ON audit.archive_object, audit.archived_history, audit.archive_mark TO comitia_audit;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for statements in (FILES, HISTORIES, MARKS, GRANTS):
        op.execute(statements)
