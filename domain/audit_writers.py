"""Whose audit entries are: which service writes which kinds, and in whose name; the database holds every role to it.

A new kind stands here too, and the next run of migrations installs its rows
(`integrations/postgres/entry_writers.py`). What services share is a database role: whoever takes one process over can
write what its role can.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from domain.audit import AuditKind as K


class EntryWriter(StrEnum):
    """A service that writes entries, by the database role that it has."""

    VOTING = "voting"
    IDENTITY = "identity"
    TALLY = "tally"
    SURVEYS = "surveys"
    CLOSING = "closing"
    UNMASKING = "unmasking"
    CODEC = "codec"
    STAFFING = "staffing"
    ROLLS = "rolls"
    CONSOLE = "console"


# In whose name: `*` stands for anybody of a sort, everything else is meant as it is.
NOBODY: Final = ""  # an entry without actor
STAFF: Final = "staff:*"
CLIENT: Final = "client:*"
COMMAND: Final = "comitia:*"  # whoever gave a command, by the account of the machine

Writing = Mapping[K, frozenset[str]]


def _writing(kinds: tuple[K, ...], *actors: str) -> Writing:
    return dict.fromkeys(kinds, frozenset(actors))


_SIGN_INS: Final = _writing((K.STAFF_SIGNED_IN, K.STAFF_REFUSED), STAFF)

WRITERS: Final[Mapping[EntryWriter, Writing]] = {
    EntryWriter.VOTING: _writing((K.VOTES_RECORDED, K.VOTE_FOR_LOST_SURVEY, K.VOTE_FOR_SEALED_SURVEY), NOBODY),
    EntryWriter.IDENTITY: {
        **_SIGN_INS,
        **_writing((K.LOGIN_DECIDED,), "process:assess-login"),
        **_writing((K.LOGIN_ENDED,), "process:assess-login", "process:auth"),
        **_writing((K.REGISTRATION_ENDED,), "process:register-voter"),
        **_writing((K.ACCOUNT_RECOVERED,), "process:recover-account"),
        **_writing((K.DELETION_ASKED,), "process:auth"),
        **_writing((K.ACCOUNT_DELETED,), "process:delete-account"),
        **_writing((K.CASE_ACTION_ASKED, K.CASE_ACTION_TAKEN, K.HISTORY_READ, K.WORK_CANCELLED), STAFF, CLIENT),
        **_writing((K.DECISIONS_REJUDGED, K.EXECUTIONS_REPLAYED, K.EVIDENCE_EXPORTED), STAFF, CLIENT, COMMAND),
    },
    EntryWriter.TALLY: _SIGN_INS,
    EntryWriter.SURVEYS: {
        **_SIGN_INS,
        **_writing(
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
                K.EXPORT_CANCELLED,
                K.EXPORT_FETCHED,
            ),
            STAFF,
            CLIENT,
        ),
        **_writing((K.EXPORT_COMPLETED,), "process:export-results"),
        **_writing((K.KEY_MADE, K.KEY_DESTROYED), "process:rotate-keys", COMMAND),
        **_writing((K.SURVEY_KEYS_MADE,), "process:run-survey"),
    },
    EntryWriter.CLOSING: {
        **_writing((K.CERTIFICATION_ASKED,), STAFF, CLIENT),
        **_writing((K.SURVEY_BALLOTS_OPENED, K.SURVEY_CERTIFIED, K.SURVEY_KEYS_DESTROYED), "process:run-survey"),
    },
    EntryWriter.UNMASKING: _writing((K.CASE_UNMASKING,), STAFF, "process:break-glass"),
    EntryWriter.CODEC: _writing((K.HISTORY_DECODED,), STAFF),
    EntryWriter.STAFFING: _writing((K.STAFF_ADDED, K.STAFF_DISABLED, K.CLIENT_ADDED, K.CLIENT_DISABLED), COMMAND),
    EntryWriter.ROLLS: _writing((K.ROLL_ENROLLED,), COMMAND),
    EntryWriter.CONSOLE: _SIGN_INS,
}
