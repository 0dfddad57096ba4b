"""Every mutating route and every activity, and the kinds of audit entry that come of it, or why none does.

Whoever promises a kind is seen to keep it: some test takes each such route, page and activity while `leaves` looks.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from domain.audit import AuditKind as K

Audited = tuple[K, ...]

_STEP: Final = "a step of a case: its end is the entry"
_NOTHING: Final = "changes nothing that lasts"
_READS: Final = "reads, or asks somebody else"
_OWN: Final = "a voter's own way of logging in; no case names it without naming the voter"
_SESSION: Final = "a session: signing in is an entry, and its row says when and why it ended"
_SECRET_VOTE: Final = "an entry would say who took part, beside the batch that the vote is in"
_FOLLOWS: Final = "carries out in cells what an entry of the catalogue has decided"
_PROJECTION: Final = "can be made anew from what entries are of"
_LOG: Final = "makes the log itself"
_COPIES: Final = "a copy, still encrypted, of what the server keeps anyway; a table says what is in which file"
_VERDICTS: Final = "verdicts of what was asked for, which is the entry: nothing that was judged is changed by them"
_KEYS: Final = "the same keys in another wrapping: that it was made is the entry"

# By service and route as its OpenAPI document has it.
ROUTES: Final[dict[str, Audited | str]] = {
    "auth POST /v1/registrations": _STEP,
    "auth DELETE /v1/registrations/{registration_id}": (K.REGISTRATION_ENDED,),
    "auth POST /v1/registrations/{registration_id}/contact": _STEP,
    "auth POST /v1/registrations/{registration_id}/contact/resend": _STEP,
    "auth POST /v1/registrations/{registration_id}/proofing-access": _STEP,
    "auth POST /v1/registrations/{registration_id}/appeal": _STEP,
    "auth POST /v1/auth/token": _SESSION,
    "auth DELETE /v1/auth/sessions/{id}": _SESSION,
    "auth POST /v1/auth/logout": _SESSION,
    "auth POST /v1/auth/backchannel-logout": _SESSION,
    "auth POST /v1/auth/logins": (K.LOGIN_DECIDED,),
    "auth POST /v1/auth/logins/codes": _STEP,
    "auth POST /v1/auth/logins/passkey-options": _NOTHING,
    "auth POST /v1/auth/logins/{attempt_id}/step-up": (K.LOGIN_ENDED,),
    "auth POST /v1/auth/logins/{attempt_id}/step-up-code": _STEP,
    "auth POST /v1/auth/logins/{attempt_id}/passkey-options": _NOTHING,
    "auth DELETE /v1/account/credentials/{id}": _OWN,
    "auth POST /v1/account/credentials/providers/{provider}": _NOTHING,
    "auth POST /v1/account/credentials/providers/{provider}/finish": _OWN,
    "auth DELETE /v1/account/credentials/providers/{provider}": _OWN,
    "auth PUT /v1/account/password": _OWN,
    "auth POST /v1/account/passkeys/options": _NOTHING,
    "auth POST /v1/account/passkeys": _OWN,
    "auth POST /v1/account/totp": _OWN,
    "auth POST /v1/account/totp/confirm": _OWN,
    "auth POST /v1/account/recovery-codes": _OWN,
    "auth POST /v1/account/recovery": _STEP,
    "auth POST /v1/account/recovery/{token}/passkey-options": _NOTHING,
    "auth POST /v1/account/recovery/{token}": (K.ACCOUNT_RECOVERED,),
    "auth DELETE /v1/account": (K.DELETION_ASKED,),
    "eligibility POST /v1/surveys/{id}/voting-token": _SECRET_VOTE,
    "surveys POST /v1/internal/surveys": (K.SURVEY_CREATED,),
    "surveys PUT /v1/internal/surveys/{survey_id}": (K.SURVEY_UPDATED, K.SURVEY_CORRECTED),
    "surveys DELETE /v1/internal/surveys/{survey_id}": (K.SURVEY_DELETED,),
    "surveys PUT /v1/internal/surveys/{survey_id}/publish": (K.SURVEY_PUBLISHED,),
    "surveys PUT /v1/internal/surveys/{survey_id}/finish": (K.SURVEY_FINISHED,),
    "surveys PUT /v1/internal/surveys/{survey_id}/pause": (K.SURVEY_PAUSED,),
    "surveys PUT /v1/internal/surveys/{survey_id}/resume": (K.SURVEY_RESUMED,),
    "surveys PUT /v1/internal/surveys/{survey_id}/extend": (K.SURVEY_EXTENDED,),
    "surveys PUT /v1/internal/surveys/{survey_id}/certify": (K.CERTIFICATION_ASKED,),
    "surveys POST /v1/internal/surveys/{survey_id}/exports": (K.EXPORT_ASKED,),
    "surveys PUT /v1/internal/surveys/{survey_id}/exports/{export_id}/cancel": (K.EXPORT_CANCELLED,),
    "votes POST /v1/surveys/{id}/vote": (K.VOTES_RECORDED,),
    "votes POST /vote": (K.VOTES_RECORDED,),
    "votes POST /v1/surveys/{id}/answers": "an answer session, which only its voter can read",
    "votes PUT /v1/surveys/{id}/answers/{answer_id}/finish": (K.VOTES_RECORDED,),
    "webhooks POST /v1/webhooks/{vendor}": _STEP,
    "support POST /v1/support/cases/{case_id}/actions": (K.CASE_ACTION_ASKED, K.CASE_ACTION_TAKEN),
    "support POST /v1/support/unmaskings": (K.CASE_UNMASKING,),
    "support POST /v1/support/unmaskings/{unmasking_id}/decision": (K.CASE_UNMASKING,),
    "compliance POST /v1/compliance/bundles": (K.EVIDENCE_EXPORTED,),
    "support POST /v1/support/codec/decode": (K.HISTORY_DECODED,),
    "support POST /v1/support/codec/encode": "refused, whoever asks",
    "compliance POST /v1/compliance/rejudgements": (K.DECISIONS_REJUDGED,),
    "compliance PUT /v1/compliance/rejudgements/{rejudgement_id}/cancel": (K.WORK_CANCELLED,),
    "compliance POST /v1/compliance/replays": (K.EXECUTIONS_REPLAYED,),
    "compliance PUT /v1/compliance/replays/{replay_id}/cancel": (K.WORK_CANCELLED,),
}

# Pages of the console, which are in no document of the API: what changes something, and who comes back signed in.
PAGES: Final[dict[str, Audited | str]] = {
    "support GET /console/back": (K.STAFF_SIGNED_IN,),
    "support POST /console/sign-out": _SESSION,
    "support POST /console/pass": (K.STAFF_SIGNED_IN,),
    "support POST /console/find": _READS,
    "support POST /console/waiting": _READS,
    "support POST /console/cases/{case_id}/actions": (K.CASE_ACTION_ASKED, K.CASE_ACTION_TAKEN),
    "support POST /console/cases/{case_id}/unmaskings": (K.CASE_UNMASKING,),
    "support POST /console/unmaskings": _NOTHING,
    "support POST /console/unmaskings/{unmasking_id}/decision": (K.CASE_UNMASKING,),
    "support POST /console/unmaskings/{unmasking_id}/read": (K.CASE_UNMASKING,),
    "compliance GET /console/compliance/back": (K.STAFF_SIGNED_IN,),
    "compliance POST /console/compliance/sign-out": _SESSION,
    "compliance POST /console/compliance/pass": (K.STAFF_SIGNED_IN,),
    "compliance POST /console/compliance/replays": (K.EXECUTIONS_REPLAYED,),
    "compliance POST /console/compliance/replays/{work_id}/cancel": (K.WORK_CANCELLED,),
    "compliance POST /console/compliance/rejudgements": _NOTHING,
    "compliance POST /console/compliance/rejudgements/new": (K.DECISIONS_REJUDGED,),
    "compliance POST /console/compliance/rejudgements/{work_id}/cancel": (K.WORK_CANCELLED,),
    "compliance POST /console/compliance/bundles": (K.EVIDENCE_EXPORTED,),
    "surveys GET /console/surveys/back": (K.STAFF_SIGNED_IN,),
    "surveys POST /console/surveys/sign-out": _SESSION,
    "surveys POST /console/surveys/pass": (K.STAFF_SIGNED_IN,),
    "surveys POST /console/surveys/exports": (K.EXPORT_ASKED,),
    "surveys POST /console/surveys/exports/{survey_id}/{export_id}/cancel": (K.EXPORT_CANCELLED,),
}

# Routes and pages that change nothing and leave an entry all the same: somebody has then seen or taken what they show.
READINGS: Final[dict[str, Audited]] = {
    "support GET /v1/support/cases/{case_id}": (K.HISTORY_READ,),
    "support GET /v1/support/cases/{case_id}/timeline": (K.HISTORY_READ,),
    "support GET /console/cases/{case_id}": (K.HISTORY_READ,),
    "support GET /console/cases/{case_id}/timeline": (K.HISTORY_READ,),
    "surveys GET /v1/internal/surveys/{survey_id}/exports/{export_id}": (K.EXPORT_FETCHED,),
    "surveys GET /console/surveys/exports/{survey_id}/{export_id}/file": (K.EXPORT_FETCHED,),
    "support GET /v1/support/unmaskings/{unmasking_id}": (K.CASE_UNMASKING,),
}

ACTIVITIES: Final[dict[str, Audited | str]] = {
    "sequence_audit_log": _LOG,
    "write_audit_tiles": _LOG,
    "sign_audit_head": _LOG,
    "compare_audit_log": _READS,
    "plan_archive": _READS,
    "write_history_pack": _COPIES,
    "note_history_pack": _COPIES,
    "mark_archive": _COPIES,
    "recount_cell": "the note of the stage before it is the entry",
    "publish_ballots": "files whose digests are in the certificate, which is an entry",
    "sign_certificate": "the note of it is the entry",
    "claim_document": _STEP,
    "release_document": _STEP,
    "release_claims": _STEP,
    "settle_document": _STEP,
    "seal_survey": _FOLLOWS,
    "note_certification": (K.CERTIFICATION_ASKED, K.SURVEY_BALLOTS_OPENED, K.SURVEY_CERTIFIED),
    "install_certificate": _FOLLOWS,
    "destroy_catalogue_keys": (K.SURVEY_KEYS_DESTROYED,),
    "destroy_cell_keys": _FOLLOWS,
    "send_contact_code": _READS,
    "send_message": _READS,
    "stop_account": _STEP,
    "end_registration": "asks the registration's own process, which notes its end",
    "list_cases": _READS,
    "erase_devices": _STEP,
    "end_account": _STEP,
    "certify_deletion": (K.ACCOUNT_DELETED,),
    "drain_cell": _READS,
    "register_export": (K.EXPORT_ASKED,),
    "write_export": _STEP,
    "complete_export": (K.EXPORT_COMPLETED,),
    "cancel_export": (K.EXPORT_CANCELLED,),
    "list_keys": _READS,
    "replace_key": (K.KEY_MADE,),
    "rewrap_catalogue": _KEYS,
    "rewrap_cell": _KEYS,
    "rewrap_personal": _KEYS,
    "destroy_old_keys": (K.KEY_DESTROYED,),
    "retire_token_keys": (K.KEY_DESTROYED,),
    "assess_login": (K.LOGIN_DECIDED,),
    "look_at_device": _READS,
    "look_at_login": _READS,
    "redeem_challenge": _READS,
    "read_logins": _READS,
    "record_login": (K.LOGIN_DECIDED,),
    "end_login": (K.LOGIN_ENDED,),
    "open_case": _READS,
    "read_case": _READS,
    "allow_retry": _READS,
    "erase_case": _READS,
    "check_ledger": _PROJECTION,
    "compare_tally": _READS,
    "repair_tally": _PROJECTION,
    "keep_tally": _PROJECTION,
    "compare_cells": _PROJECTION,
    "open_differences": _READS,
    "find_account": _READS,
    "send_recovery_link": _STEP,
    "look_at_link": _READS,
    "cancel_recovery": _STEP,
    "unlock_account": "does what the entries of an action of support say was asked and done",
    "note_stage": (K.REGISTRATION_ENDED,),
    "note_erased": _STEP,
    "open_account": _STEP,
    "activate_voter": _STEP,
    "suspend_account": _STEP,
    "close_account": _STEP,
    "destroy_personal_data": _STEP,
    "note_intake": (K.SURVEY_PAUSED, K.SURVEY_RESUMED),
    "set_intake": _FOLLOWS,
    "extend_survey": (K.SURVEY_EXTENDED,),
    "freeze_survey": (K.SURVEY_PUBLISHED,),
    "provide_survey_keys": (K.SURVEY_KEYS_MADE,),
    "install_survey": _FOLLOWS,
    "set_survey_window": _FOLLOWS,
    "open_survey": _FOLLOWS,
    "finish_survey": (K.SURVEY_FINISHED,),
    "correct_survey": (K.SURVEY_CORRECTED,),
    "announce_survey": _FOLLOWS,
    "record_votes": (K.VOTES_RECORDED, K.VOTE_FOR_LOST_SURVEY, K.VOTE_FOR_SEALED_SURVEY),
    "announce_votes": _PROJECTION,
    "note_unmasking": (K.CASE_UNMASKING,),
    "tell_of_unmasking": _READS,
    "rejudge_decisions": _READS,
    "replay_executions": _VERDICTS,
    "end_replay": _VERDICTS,
}

_SURVEYS: Final = "tests/api/surveys/test_audited.py::test_every_route_of_staff_leaves_its_entry"
_STORES: Final = "tests/integrations/postgres/test_audited.py::test_every_change_leaves_its_entry_once"
_LEDGER: Final = "tests/integrations/postgres/test_ledger.py"

# Where an entry of each kind is seen to come out, in the transaction of what it describes.
SEEN: Final[dict[K, str]] = {
    **dict.fromkeys(
        (
            K.SURVEY_CREATED,
            K.SURVEY_UPDATED,
            K.SURVEY_DELETED,
            K.SURVEY_PUBLISHED,
            K.SURVEY_CORRECTED,
            K.SURVEY_PAUSED,
            K.SURVEY_RESUMED,
            K.SURVEY_EXTENDED,
            K.SURVEY_FINISHED,
            K.EXPORT_ASKED,
        ),
        _SURVEYS,
    ),
    **dict.fromkeys(
        (
            K.LOGIN_DECIDED,
            K.LOGIN_ENDED,
            K.REGISTRATION_ENDED,
            K.ACCOUNT_RECOVERED,
            K.DELETION_ASKED,
            K.ACCOUNT_DELETED,
            K.STAFF_ADDED,
            K.STAFF_DISABLED,
            K.CLIENT_ADDED,
            K.CLIENT_DISABLED,
            K.ROLL_ENROLLED,
        ),
        _STORES,
    ),
}
SEEN[K.SURVEY_KEYS_MADE] = "tests/integrations/postgres/test_audited.py::test_the_keys_of_a_survey_are_made_once"
for _kind in (K.CERTIFICATION_ASKED, K.SURVEY_BALLOTS_OPENED, K.SURVEY_CERTIFIED, K.SURVEY_KEYS_DESTROYED):
    SEEN[_kind] = "tests/integrations/postgres/test_audited.py::test_the_end_of_a_survey_leaves_its_entries_once"
for _kind in (K.KEY_MADE, K.KEY_DESTROYED):
    SEEN[_kind] = "tests/integrations/postgres/test_audited.py::test_what_becomes_of_a_key_leaves_its_entries_once"
for _kind in (K.CASE_ACTION_ASKED, K.CASE_ACTION_TAKEN):
    SEEN[_kind] = "tests/api/support/test_acting.py::test_what_support_asks_for_is_done_once_and_written_down_first"
for _kind in (K.STAFF_SIGNED_IN, K.STAFF_REFUSED):
    SEEN[_kind] = (
        "tests/integrations/postgres/test_staff_sign_ins.py"
        "::test_staff_who_come_in_and_staff_who_are_refused_are_written_down_once"
    )
SEEN[K.HISTORY_READ] = "tests/api/support/test_reading.py::test_whoever_reads_a_case_is_written_down_by_name_and_role"
SEEN[K.CASE_UNMASKING] = "tests/api/support/test_unmasking.py::test_a_field_is_read_once_a_second_person_agreed"
SEEN[K.HISTORY_DECODED] = (
    "tests/api/support/test_codec_served.py::test_whoever_has_a_token_of_staff_opens_a_history_with_temporals_own_command_line"
)
SEEN[K.DECISIONS_REJUDGED] = "tests/api/compliance/test_rejudgements.py::test_a_rejudgement_is_asked_for_once_and_read"
SEEN[K.EXPORT_CANCELLED] = (
    "tests/api/surveys/test_exports.py::test_a_cancelled_export_stays_so_and_is_written_down_once"
)
for _kind in (K.EXPORT_COMPLETED, K.EXPORT_FETCHED):
    SEEN[_kind] = "tests/api/surveys/test_exports.py::test_a_file_and_whoever_has_it_are_entries_with_its_digest"
SEEN[K.EXECUTIONS_REPLAYED] = "tests/api/compliance/test_replays.py::test_a_replay_is_asked_for_once_and_read"
SEEN[K.WORK_CANCELLED] = "tests/api/compliance/test_rejudgements.py::test_a_rejudgement_is_cancelled_once"
SEEN[K.VOTES_RECORDED] = f"{_LEDGER}::test_the_roots_commit_to_the_rows"
SEEN[K.VOTE_FOR_SEALED_SURVEY] = f"{_LEDGER}::test_a_vote_for_a_sealed_survey_is_a_fault_that_is_written_down"
SEEN[K.VOTE_FOR_LOST_SURVEY] = f"{_LEDGER}::test_a_survey_whose_key_is_destroyed_costs_the_votes_of_another_nothing"
SEEN[K.EVIDENCE_EXPORTED] = (
    "tests/api/compliance/test_bundles.py::test_each_export_is_an_entry_with_the_digest_of_what_was_taken"
)

_WITHIN_S: Final = 30.0
_SINCE: Final = """
SELECT DISTINCT kind FROM audit.entry WHERE occurred_at >= $1 AND ($2 = '' OR body ->> 'subject' = $2)
"""


def promised(name: str) -> frozenset[K]:
    """Return the kinds that a route, page or activity leaves: none where there is a reason."""
    found = {**ROUTES, **PAGES, **READINGS, **ACTIVITIES}[name]
    return frozenset() if isinstance(found, str) else frozenset(found)


@asynccontextmanager
async def leaves(
    pool: Any, name: str, *kinds: K, subject: str = "", within_s: float = _WITHIN_S
) -> AsyncIterator[None]:
    """See that within the block a route, page or activity, by its name here, leaves an entry of each kind it promises.

    `pool` is the owner's, of the database that is written to; `kinds` are those of this case where a name has several.
    What a process writes down once it has answered is waited for.
    """
    wanted = set(kinds) or set(promised(name))
    assert wanted, f"{name} promises nothing"
    assert wanted <= promised(name)
    since = await pool.fetchval("SELECT clock_timestamp()")
    yield
    give_up_at = asyncio.get_running_loop().time() + within_s
    while missing := wanted - {row["kind"] for row in await pool.fetch(_SINCE, since, subject)}:
        assert asyncio.get_running_loop().time() < give_up_at, f"{name} left no {', '.join(sorted(missing))}"
        await asyncio.sleep(0.05)
