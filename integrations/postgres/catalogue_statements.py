"""The statements of the catalogue."""

ENTRY = """
SELECT survey_id, version, stage, title, regions, minimum_age, roll_required, visibility, minimum_step,
    start_at, finish_at, last_question_id, last_option_id, published_from, finished_from, paused_at,
    (
        SELECT coalesce(json_agg(json_build_object(
            'id', question_id::text, 'title', question.title, 'description', description,
            'min', min, 'max', max, 'text_max', text_max, 'order', position,
            'options', (
                SELECT coalesce(json_agg(json_build_object(
                    'id', option_id::text, 'text', text, 'image', image, 'order', option.position
                ) ORDER BY option.position, option_id), '[]')
                FROM catalogue.option
                WHERE option.survey_id = question.survey_id AND option.question_id = question.question_id
            )
        ) ORDER BY position, question_id), '[]')
        FROM catalogue.question WHERE question.survey_id = survey.survey_id
    ) AS questions,
    (
        SELECT coalesce(json_agg(json_build_object(
            'version', corrected.version, 'corrected_at', corrected_at, 'text', json_build_object(
                'question', coalesce(nullif(question_id, 0)::text, ''),
                'option', coalesce(nullif(option_id, 0)::text, ''),
                'field', field, 'before', before, 'after', after
            )
        ) ORDER BY corrected.version, question_id, option_id, field), '[]')
        FROM catalogue.corrected_text AS corrected WHERE corrected.survey_id = survey.survey_id
    ) AS corrections
FROM catalogue.survey WHERE survey_id = $1
"""

LOCK = "SELECT FROM catalogue.survey WHERE survey_id = $1 FOR UPDATE"

PAGE = """
SELECT survey_id, title, stage, start_at, finish_at, created_at
FROM catalogue.survey
WHERE ($1::timestamptz IS NULL OR (created_at, survey_id) < ($1, $2))
AND ($4 OR stage IN ('published', 'finished'))
ORDER BY created_at DESC, survey_id DESC LIMIT $3
"""

CREATE = """
INSERT INTO catalogue.survey (
    survey_id, version, stage, title, regions, minimum_age, roll_required, visibility, minimum_step,
    start_at, finish_at, last_question_id, last_option_id
) VALUES ($1, $2, 'draft', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""

UPDATE_DRAFT = """
UPDATE catalogue.survey SET version = $2, title = $3, regions = $4, minimum_age = $5, roll_required = $6,
    visibility = $7, minimum_step = $8, start_at = $9, finish_at = $10, last_question_id = $11, last_option_id = $12
WHERE survey_id = $1 AND version = $13 AND stage = 'draft' RETURNING version
"""

DELETE_DRAFT = (
    "DELETE FROM catalogue.survey WHERE survey_id = $1 AND version = $2 AND stage = 'draft' RETURNING version"
)

DELETE_QUESTIONS = "DELETE FROM catalogue.question WHERE survey_id = $1"

INSERT_QUESTIONS = """
INSERT INTO catalogue.question (survey_id, question_id, title, description, min, max, text_max, position)
SELECT $1, question_id, title, description, min, max, text_max, position
FROM unnest($2::integer[], $3::text[], $4::text[], $5::integer[], $6::integer[], $7::integer[], $8::integer[])
    AS question (question_id, title, description, min, max, text_max, position)
"""

INSERT_OPTIONS = """
INSERT INTO catalogue.option (survey_id, option_id, question_id, text, image, position)
SELECT $1, option_id, question_id, text, image, position
FROM unnest($2::integer[], $3::integer[], $4::text[], $5::text[], $6::integer[])
    AS option (option_id, question_id, text, image, position)
"""

STAFF_ACTION = """
INSERT INTO catalogue.staff_action (actor, action, survey_id, before_digest, after_digest) VALUES ($1, $2, $3, $4, $5)
"""

FREEZE = """
UPDATE catalogue.survey SET stage = 'publishing', published_from = version, version = version + 1
WHERE survey_id = $1 AND stage = 'draft' AND ($2::bigint IS NULL OR version = $2)
AND (finish_at IS NULL OR finish_at > $3) RETURNING version
"""

KEEP_KEYS = """
UPDATE catalogue.survey SET wrapped_ballot_key = $2, wrapped_eligibility_key = $3
WHERE survey_id = $1 AND stage = 'publishing' AND wrapped_ballot_key IS NULL RETURNING survey_id
"""

KEYS = """
SELECT wrapped_ballot_key, wrapped_eligibility_key FROM catalogue.survey
WHERE survey_id = $1 AND wrapped_ballot_key IS NOT NULL
"""

OPEN = """
UPDATE catalogue.survey SET stage = 'published', start_at = $2, finish_at = $3, version = version + 1
WHERE survey_id = $1 AND stage = 'publishing' RETURNING version
"""

FINISH = """
UPDATE catalogue.survey SET stage = 'finished', start_at = $2, finish_at = $3, finished_from = version,
    version = version + 1
WHERE survey_id = $1 AND stage = 'published' RETURNING version
"""

SET_INTAKE = """
UPDATE catalogue.survey SET paused_at = CASE WHEN $2 THEN now() END, version = version + 1
WHERE survey_id = $1 AND stage = 'published' AND (paused_at IS NOT NULL) <> $2 RETURNING version
"""

EXTEND = """
UPDATE catalogue.survey SET finish_at = $2, version = version + 1
WHERE survey_id = $1 AND stage = 'published' AND finish_at < $2 RETURNING version
"""

CORRECT = """
UPDATE catalogue.survey SET title = $3, version = version + 1
WHERE survey_id = $1 AND version = $2 AND stage = 'published' RETURNING version
"""

KEEP_REPLACED = """
INSERT INTO catalogue.corrected_text (survey_id, version, question_id, option_id, field, before, after)
SELECT $1, $2, question_id, option_id, field, before, after
FROM unnest($3::integer[], $4::integer[], $5::text[], $6::text[], $7::text[])
    AS replaced (question_id, option_id, field, before, after)
"""

REGISTER_EXPORT = """
INSERT INTO catalogue.export (export_id, survey_id, requested_by, format, region, option_id)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT ON CONSTRAINT pk_export DO NOTHING RETURNING export_id
"""

COMPLETE_EXPORT = """
UPDATE catalogue.export SET object_name = $3, sha256 = $4, size_bytes = $5, as_of = $6, missing_cells = $7,
    finished_at = now()
WHERE export_id = $1 AND survey_id = $2 AND finished_at IS NULL AND cancelled_at IS NULL RETURNING export_id
"""

CANCEL_EXPORT = """
UPDATE catalogue.export SET cancelled_at = now()
WHERE export_id = $1 AND survey_id = $2 AND finished_at IS NULL AND cancelled_at IS NULL RETURNING export_id
"""

FIND_EXPORT = """
SELECT export_id, survey_id, requested_by, requested_at, format, region, option_id, object_name, sha256, size_bytes,
    as_of, missing_cells, finished_at, cancelled_at
FROM catalogue.export WHERE export_id = $1 AND survey_id = $2
"""

NEWEST_EXPORTS = """
SELECT export_id, survey_id, requested_by, requested_at, format, region, option_id, object_name, sha256, size_bytes,
    as_of, missing_cells, finished_at, cancelled_at
FROM catalogue.export ORDER BY requested_at DESC, export_id DESC LIMIT $1
"""
