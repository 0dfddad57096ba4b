"""The whole catalogue of errors: every code that a caller, a history or a log can show."""

from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """Stable codes: added to, never reused, never renamed."""

    # The request itself
    MALFORMED_REQUEST = "malformed_request"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    REQUEST_TIMEOUT = "request_timeout"
    HEADERS_TOO_LARGE = "headers_too_large"
    PRECONDITION_FAILED = "precondition_failed"
    RATE_LIMITED = "rate_limited"

    # Who asks
    UNAUTHENTICATED = "unauthenticated"
    TOKEN_INVALID = "token_invalid"
    TOKEN_EXPIRED = "token_expired"
    PROOF_INVALID = "proof_invalid"
    DEVICE_MISMATCH = "device_mismatch"
    FORBIDDEN = "forbidden"
    STEP_UP_REQUIRED = "step_up_required"
    RISK_DENIED = "risk_denied"

    # Admission
    VOTER_NOT_FOUND = "voter_not_found"
    VOTER_NOT_VERIFIED = "voter_not_verified"
    VOTER_NOT_ACTIVE = "voter_not_active"
    REGION_NOT_ELIGIBLE = "region_not_eligible"
    AGE_NOT_ELIGIBLE = "age_not_eligible"
    NOT_ON_ROLL = "not_on_roll"
    WRONG_CELL = "wrong_cell"

    # Registration and login
    REGISTRATION_NOT_FOUND = "registration_not_found"
    REGISTRATION_STAGE = "registration_stage"
    REGISTRATION_EXPIRED = "registration_expired"
    CODE_WRONG = "code_wrong"
    CHALLENGE_FAILED = "challenge_failed"
    DEVICE_EVENT_INVALID = "device_event_invalid"
    DEVICE_REFUSED = "device_refused"
    PERSON_ALREADY_REGISTERED = "person_already_registered"
    LOGIN_FAILED = "login_failed"
    LOGIN_NOT_FOUND = "login_not_found"
    SESSION_REVOKED = "session_revoked"
    SESSION_NOT_FOUND = "session_not_found"
    REFRESH_TOKEN_INVALID = "refresh_token_invalid"
    LOGOUT_TOKEN_INVALID = "logout_token_invalid"
    PASSWORD_NOT_ACCEPTED = "password_not_accepted"
    FACTOR_NOT_FOUND = "factor_not_found"
    PASSKEY_NOT_ACCEPTED = "passkey_not_accepted"
    LINK_NOT_ACCEPTED = "link_not_accepted"
    LOGIN_TAKEN = "login_taken"
    PROVIDER_LINKED = "provider_linked"
    LAST_CREDENTIAL = "last_credential"
    RECOVERY_LINK_INVALID = "recovery_link_invalid"
    DELETION_NOT_FOUND = "deletion_not_found"
    WEBHOOK_INVALID = "webhook_invalid"

    # Surveys
    SURVEY_NOT_FOUND = "survey_not_found"
    SURVEY_INVALID = "survey_invalid"
    SURVEY_FROZEN = "survey_frozen"
    SURVEY_NOT_OPEN = "survey_not_open"
    SURVEY_CLOSED = "survey_closed"
    SURVEY_PAUSED = "survey_paused"
    SURVEY_PUBLISHING = "survey_publishing"
    SURVEY_NOT_CERTIFIED = "survey_not_certified"
    RESULTS_NOT_VISIBLE = "results_not_visible"
    EXPORT_NOT_FOUND = "export_not_found"
    EXPORT_NOT_FINISHED = "export_not_finished"
    REGION_UNKNOWN = "region_unknown"

    # Answers
    QUESTION_UNKNOWN = "question_unknown"
    QUESTION_REPEATED = "question_repeated"
    OPTION_UNKNOWN = "option_unknown"
    OPTION_REPEATED = "option_repeated"
    TOO_FEW_OPTIONS = "too_few_options"
    TOO_MANY_OPTIONS = "too_many_options"
    TEXT_NOT_ALLOWED = "text_not_allowed"
    TEXT_TOO_LONG = "text_too_long"
    ANSWER_SESSION_NOT_FOUND = "answer_session_not_found"
    ANSWER_SESSION_FINISHED = "answer_session_finished"

    # Votes
    ALREADY_VOTED = "already_voted"
    VOTE_REFUSED = "vote_refused"
    SUBMISSION_NOT_FOUND = "submission_not_found"
    NOT_SEALED_YET = "not_sealed_yet"
    OVERLOADED = "overloaded"
    OUTCOME_UNKNOWN = "outcome_unknown"
    DEADLINE_EXCEEDED = "deadline_exceeded"

    # Staff
    CASE_NOT_FOUND = "case_not_found"
    CASE_STAGE = "case_stage"
    UNMASKING_NOT_FOUND = "unmasking_not_found"
    UNMASKING_STAGE = "unmasking_stage"
    WORK_ENDED = "work_ended"
    IDEMPOTENCY_KEY_USED = "idempotency_key_used"

    # What we depend on
    CELL_UNAVAILABLE = "cell_unavailable"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    DIRECTORY_UNAVAILABLE = "directory_unavailable"
    CATALOGUE_UNAVAILABLE = "catalogue_unavailable"
    TALLY_UNAVAILABLE = "tally_unavailable"
    VELOCITY_UNAVAILABLE = "velocity_unavailable"
    LIMITS_UNAVAILABLE = "limits_unavailable"
    USED_PROOFS_UNAVAILABLE = "used_proofs_unavailable"
    BROKER_UNAVAILABLE = "broker_unavailable"
    OBJECTS_UNAVAILABLE = "objects_unavailable"
    AUDIT_LOG_UNAVAILABLE = "audit_log_unavailable"
    WORKFLOWS_UNAVAILABLE = "workflows_unavailable"
    KEY_UNAVAILABLE = "key_unavailable"
    PROOFING_UNAVAILABLE = "proofing_unavailable"
    DEVICES_UNAVAILABLE = "devices_unavailable"
    CHALLENGES_UNAVAILABLE = "challenges_unavailable"
    MAIL_UNAVAILABLE = "mail_unavailable"
    MAIL_REFUSED = "mail_refused"
    IDENTITY_PROVIDER_UNAVAILABLE = "identity_provider_unavailable"
    BREACHES_UNAVAILABLE = "breaches_unavailable"
    KEY_DESTROYED = "key_destroyed"

    # Faults: somebody must look
    BATCH_DIGEST_MISMATCH = "batch_digest_mismatch"
    SURVEY_SEALED = "survey_sealed"
    PROOFING_REFUSED = "proofing_refused"
    CHALLENGES_MISCONFIGURED = "challenges_misconfigured"
    DEVICES_MISCONFIGURED = "devices_misconfigured"
    CLAIM_CONTRADICTED = "claim_contradicted"
    AUDIT_LOG_CONTRADICTED = "audit_log_contradicted"
    ARCHIVE_CONTRADICTED = "archive_contradicted"
    RECORD_CONTRADICTED = "record_contradicted"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """What a code means to a caller: its HTTP status, its title, and whether trying again can help."""

    status: int
    title: str
    retryable: bool = False


CATALOGUE: dict[ErrorCode, ErrorSpec] = {
    ErrorCode.MALFORMED_REQUEST: ErrorSpec(400, "The request is not what this call takes"),
    ErrorCode.NOT_FOUND: ErrorSpec(404, "There is nothing at this address"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorSpec(405, "This address does not take this method"),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorSpec(413, "The body is larger than this call takes"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorSpec(415, "The body must be application/json"),
    ErrorCode.REQUEST_TIMEOUT: ErrorSpec(408, "The request did not arrive in time"),
    ErrorCode.HEADERS_TOO_LARGE: ErrorSpec(431, "The headers are larger than this service takes"),
    ErrorCode.PRECONDITION_FAILED: ErrorSpec(412, "Somebody else changed it first"),
    ErrorCode.RATE_LIMITED: ErrorSpec(429, "Too many requests", retryable=True),
    ErrorCode.UNAUTHENTICATED: ErrorSpec(401, "A token is needed"),
    ErrorCode.TOKEN_INVALID: ErrorSpec(401, "The token is not valid here"),
    ErrorCode.TOKEN_EXPIRED: ErrorSpec(401, "The token has expired"),
    ErrorCode.PROOF_INVALID: ErrorSpec(401, "The proof of possession is missing or not valid"),
    ErrorCode.DEVICE_MISMATCH: ErrorSpec(401, "The token belongs to another device"),
    ErrorCode.FORBIDDEN: ErrorSpec(403, "The token does not permit this"),
    ErrorCode.STEP_UP_REQUIRED: ErrorSpec(403, "A further proof of identity is needed"),
    ErrorCode.RISK_DENIED: ErrorSpec(403, "Refused for risk"),
    ErrorCode.VOTER_NOT_FOUND: ErrorSpec(403, "No such voter"),
    ErrorCode.VOTER_NOT_VERIFIED: ErrorSpec(403, "The voter's identity is not verified"),
    ErrorCode.VOTER_NOT_ACTIVE: ErrorSpec(403, "The voter's account is not active"),
    ErrorCode.REGION_NOT_ELIGIBLE: ErrorSpec(403, "The survey is not for the voter's region"),
    ErrorCode.AGE_NOT_ELIGIBLE: ErrorSpec(403, "The survey is not for the voter's age"),
    ErrorCode.NOT_ON_ROLL: ErrorSpec(403, "The voter is not on the survey's roll"),
    ErrorCode.WRONG_CELL: ErrorSpec(421, "Another cell is home to this voter"),
    ErrorCode.REGISTRATION_NOT_FOUND: ErrorSpec(404, "No such registration"),
    ErrorCode.REGISTRATION_STAGE: ErrorSpec(409, "The registration is not at this stage"),
    ErrorCode.REGISTRATION_EXPIRED: ErrorSpec(410, "The registration has expired"),
    ErrorCode.CODE_WRONG: ErrorSpec(422, "The code is not the one that was sent"),
    ErrorCode.CHALLENGE_FAILED: ErrorSpec(403, "The bot challenge was not passed"),
    ErrorCode.DEVICE_EVENT_INVALID: ErrorSpec(422, "The device event is not one of this request"),
    ErrorCode.DEVICE_REFUSED: ErrorSpec(403, "This device is not permitted"),
    ErrorCode.PERSON_ALREADY_REGISTERED: ErrorSpec(409, "This person has an account"),
    ErrorCode.LOGIN_FAILED: ErrorSpec(401, "The login was not accepted"),
    ErrorCode.LOGIN_NOT_FOUND: ErrorSpec(404, "No such login"),
    ErrorCode.SESSION_REVOKED: ErrorSpec(401, "The session has ended"),
    ErrorCode.SESSION_NOT_FOUND: ErrorSpec(404, "No such session"),
    ErrorCode.REFRESH_TOKEN_INVALID: ErrorSpec(401, "The refresh token is not valid"),
    ErrorCode.LOGOUT_TOKEN_INVALID: ErrorSpec(400, "The logout token is not valid"),
    ErrorCode.PASSWORD_NOT_ACCEPTED: ErrorSpec(422, "The password cannot be used"),
    ErrorCode.FACTOR_NOT_FOUND: ErrorSpec(404, "No such factor"),
    ErrorCode.PASSKEY_NOT_ACCEPTED: ErrorSpec(422, "The passkey cannot be used"),
    ErrorCode.LINK_NOT_ACCEPTED: ErrorSpec(422, "The login at the provider was not accepted"),
    ErrorCode.LOGIN_TAKEN: ErrorSpec(409, "This login at the provider cannot be linked"),
    ErrorCode.PROVIDER_LINKED: ErrorSpec(409, "Another login at this provider is linked"),
    ErrorCode.LAST_CREDENTIAL: ErrorSpec(409, "Nothing else is left to log in with"),
    ErrorCode.RECOVERY_LINK_INVALID: ErrorSpec(410, "The link is not valid, or not any more"),
    ErrorCode.DELETION_NOT_FOUND: ErrorSpec(404, "No such deletion"),
    ErrorCode.WEBHOOK_INVALID: ErrorSpec(401, "The webhook is not signed as agreed"),
    ErrorCode.SURVEY_NOT_FOUND: ErrorSpec(404, "No such survey"),
    ErrorCode.SURVEY_INVALID: ErrorSpec(422, "The survey breaks a rule"),
    ErrorCode.SURVEY_FROZEN: ErrorSpec(409, "A published survey cannot change this way"),
    ErrorCode.SURVEY_NOT_OPEN: ErrorSpec(409, "The survey is not open"),
    ErrorCode.SURVEY_CLOSED: ErrorSpec(409, "The survey is closed"),
    ErrorCode.SURVEY_PAUSED: ErrorSpec(503, "The survey takes no votes for the moment", retryable=True),
    ErrorCode.SURVEY_NOT_CERTIFIED: ErrorSpec(404, "The survey has no certificate"),
    ErrorCode.SURVEY_PUBLISHING: ErrorSpec(503, "The survey is on its way into the cells", retryable=True),
    ErrorCode.RESULTS_NOT_VISIBLE: ErrorSpec(403, "The results are not shown now"),
    ErrorCode.EXPORT_NOT_FOUND: ErrorSpec(404, "No such export"),
    ErrorCode.EXPORT_NOT_FINISHED: ErrorSpec(409, "The file is not finished"),
    ErrorCode.REGION_UNKNOWN: ErrorSpec(422, "The survey is not for this region"),
    ErrorCode.QUESTION_UNKNOWN: ErrorSpec(422, "No such question in this survey"),
    ErrorCode.QUESTION_REPEATED: ErrorSpec(422, "A question is answered twice"),
    ErrorCode.OPTION_UNKNOWN: ErrorSpec(422, "No such option in this question"),
    ErrorCode.OPTION_REPEATED: ErrorSpec(422, "An option is chosen twice"),
    ErrorCode.TOO_FEW_OPTIONS: ErrorSpec(422, "Fewer options than the question asks for"),
    ErrorCode.TOO_MANY_OPTIONS: ErrorSpec(422, "More options than the question allows"),
    ErrorCode.TEXT_NOT_ALLOWED: ErrorSpec(422, "The question takes no text"),
    ErrorCode.TEXT_TOO_LONG: ErrorSpec(422, "The text is longer than the question allows"),
    ErrorCode.ANSWER_SESSION_NOT_FOUND: ErrorSpec(404, "No such answer session"),
    ErrorCode.ANSWER_SESSION_FINISHED: ErrorSpec(409, "The answer session is finished"),
    ErrorCode.ALREADY_VOTED: ErrorSpec(409, "This person has voted in this survey"),
    ErrorCode.VOTE_REFUSED: ErrorSpec(422, "The vote could not be recorded as it is"),
    ErrorCode.SUBMISSION_NOT_FOUND: ErrorSpec(404, "No such submission"),
    ErrorCode.NOT_SEALED_YET: ErrorSpec(409, "The audit log is not sealed as far as this yet", retryable=True),
    ErrorCode.OVERLOADED: ErrorSpec(503, "Too busy; nothing was recorded", retryable=True),
    ErrorCode.OUTCOME_UNKNOWN: ErrorSpec(503, "The outcome is not known; trying again is safe", retryable=True),
    ErrorCode.DEADLINE_EXCEEDED: ErrorSpec(504, "The caller's time was over; nothing was recorded", retryable=True),
    ErrorCode.CASE_NOT_FOUND: ErrorSpec(404, "No such case, or not any more"),
    ErrorCode.CASE_STAGE: ErrorSpec(409, "The case is at another stage"),
    ErrorCode.UNMASKING_NOT_FOUND: ErrorSpec(404, "No such unmasking, or not any more"),
    ErrorCode.UNMASKING_STAGE: ErrorSpec(409, "The unmasking is at another stage"),
    ErrorCode.WORK_ENDED: ErrorSpec(409, "It has ended, so there is nothing to cancel"),
    ErrorCode.IDEMPOTENCY_KEY_USED: ErrorSpec(422, "The key came with another request"),
    ErrorCode.CELL_UNAVAILABLE: ErrorSpec(
        503, "The voter's home cell records nothing now; other cells are not affected", retryable=True
    ),
    ErrorCode.LEDGER_UNAVAILABLE: ErrorSpec(503, "The ledger cannot be reached", retryable=True),
    ErrorCode.DIRECTORY_UNAVAILABLE: ErrorSpec(503, "The directory of voters cannot be reached", retryable=True),
    ErrorCode.CATALOGUE_UNAVAILABLE: ErrorSpec(503, "The catalogue cannot be reached", retryable=True),
    ErrorCode.TALLY_UNAVAILABLE: ErrorSpec(503, "The tally cannot be reached", retryable=True),
    ErrorCode.VELOCITY_UNAVAILABLE: ErrorSpec(503, "The velocity counters cannot be reached", retryable=True),
    ErrorCode.LIMITS_UNAVAILABLE: ErrorSpec(503, "The common limits cannot be reached", retryable=True),
    ErrorCode.USED_PROOFS_UNAVAILABLE: ErrorSpec(503, "The common memory of proofs cannot be reached", retryable=True),
    ErrorCode.BROKER_UNAVAILABLE: ErrorSpec(503, "The message broker cannot be reached", retryable=True),
    ErrorCode.OBJECTS_UNAVAILABLE: ErrorSpec(503, "The object store cannot be reached", retryable=True),
    ErrorCode.AUDIT_LOG_UNAVAILABLE: ErrorSpec(503, "The audit log cannot be reached", retryable=True),
    ErrorCode.WORKFLOWS_UNAVAILABLE: ErrorSpec(503, "The workflow service cannot be reached", retryable=True),
    ErrorCode.KEY_UNAVAILABLE: ErrorSpec(503, "A key cannot be reached", retryable=True),
    ErrorCode.PROOFING_UNAVAILABLE: ErrorSpec(503, "Identity proofing cannot be reached", retryable=True),
    ErrorCode.DEVICES_UNAVAILABLE: ErrorSpec(503, "Device intelligence cannot be reached", retryable=True),
    ErrorCode.CHALLENGES_UNAVAILABLE: ErrorSpec(503, "Bot challenges cannot be checked", retryable=True),
    ErrorCode.MAIL_UNAVAILABLE: ErrorSpec(503, "Mail cannot be sent", retryable=True),
    ErrorCode.MAIL_REFUSED: ErrorSpec(422, "The address takes no mail"),
    ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE: ErrorSpec(503, "The identity provider cannot be reached", retryable=True),
    ErrorCode.BREACHES_UNAVAILABLE: ErrorSpec(503, "Breached passwords cannot be looked up", retryable=True),
    ErrorCode.KEY_DESTROYED: ErrorSpec(410, "The key was destroyed"),
    ErrorCode.BATCH_DIGEST_MISMATCH: ErrorSpec(500, "A batch came back with other votes"),
    ErrorCode.SURVEY_SEALED: ErrorSpec(500, "A vote came for a sealed survey"),
    ErrorCode.PROOFING_REFUSED: ErrorSpec(500, "Identity proofing refuses our request"),
    ErrorCode.CHALLENGES_MISCONFIGURED: ErrorSpec(500, "Bot challenges refuse our secret"),
    ErrorCode.DEVICES_MISCONFIGURED: ErrorSpec(500, "Device intelligence refuses our key"),
    ErrorCode.CLAIM_CONTRADICTED: ErrorSpec(500, "Two claims of one document name two persons"),
    ErrorCode.AUDIT_LOG_CONTRADICTED: ErrorSpec(500, "An audit log is not what was signed"),
    ErrorCode.ARCHIVE_CONTRADICTED: ErrorSpec(500, "An archived history is not what was written"),
    ErrorCode.RECORD_CONTRADICTED: ErrorSpec(500, "The record of a case is not what its audit entries say"),
    ErrorCode.INTERNAL: ErrorSpec(500, "Something went wrong here"),
}


class DomainError(Exception):
    """A refusal or failure with a code of the catalogue.

    `detail` is shown to callers and reaches logs: no personal data, no choice, no token in it.
    `retry_after_s`, where given, becomes `Retry-After`.
    """

    def __init__(self, code: ErrorCode, detail: str = "", *, retry_after_s: int | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def spec(self) -> ErrorSpec:
        """The catalogue's entry for this code."""
        return CATALOGUE[self.code]
