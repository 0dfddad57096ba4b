"""Every identifier that crosses a process: how it is made and what it may say.

Identifiers are pseudonyms: none holds a name, a document, an address or a choice.
"""

import hashlib
import re
import secrets
from base64 import b32encode
from dataclasses import dataclass
from uuid import UUID

CELL = re.compile(r"[a-z][a-z0-9]{0,15}")
VOTER_ID = re.compile(r"v_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
SURVEY_ID = re.compile(r"s_[a-z2-7]{16}")
REGISTRATION_ID = re.compile(r"r_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
ATTEMPT_ID = re.compile(r"a_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
RECOVERY_ID = re.compile(r"q_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
DELETION_ID = re.compile(r"d_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
CASE_ID = re.compile(r"(?P<registration>r_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26})-(?P<case_no>[1-9][0-9]{0,2})")
STAFF_ID = re.compile(r"u_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
SESSION_ID = re.compile(r"ss_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
EXPORT_ID = re.compile(r"x_[a-z2-7]{16}")
UNMASKING_ID = re.compile(r"b_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
REJUDGEMENT_ID = re.compile(r"j_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
REPLAY_ID = re.compile(r"w_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")
CONSOLE_SESSION_ID = re.compile(r"cs_(?P<cell>[a-z][a-z0-9]{0,15})_[a-z2-7]{26}")

_OF_A_CELL = frozenset(
    {
        "submit-votes",
        "register-voter",
        "verify-identity",
        "assess-login",
        "recover-account",
        "delete-account",
        "break-glass",
        "rejudge-decisions",
        "replay-executions",
        "unlock-account",
    }
)


def _random(bits: int) -> str:
    return b32encode(secrets.token_bytes(bits // 8)).decode("ascii").rstrip("=").lower()


def new_voter_id(cell: str) -> str:
    """Return a new voter id, 128 random bits behind the voter's home cell: `v_eu_...`."""
    return f"v_{cell}_{_random(128)}"


def new_person_id() -> str:
    """Return a new person id, 128 random bits; it outlives every account of the person."""
    return f"p_{_random(128)}"


def person_id_of(unique: UUID) -> str:
    """Return the person id made of a UUID (version 4): whoever repeats a step proposes the same one."""
    return f"p_{b32encode(unique.bytes).decode('ascii').rstrip('=').lower()}"


def new_registration_id(cell: str) -> str:
    """Return a new registration id, 128 random bits behind its cell; its person has a secret besides."""
    return f"r_{cell}_{_random(128)}"


def new_attempt_id(cell: str) -> str:
    """Return a new id of a login attempt, 128 random bits behind its cell: who has it may go on with the login."""
    return f"a_{cell}_{_random(128)}"


def session_id_of(attempt_id: str) -> str:
    """Return the id of the session that a login attempt leads to: one attempt, one session."""
    return f"ss_{attempt_id.removeprefix('a_')}"


def new_recovery_id(cell: str) -> str:
    """Return a new id of a recovery request, 128 random bits behind its cell."""
    return f"q_{cell}_{_random(128)}"


def new_deletion_id(cell: str) -> str:
    """Return a new id of a deletion, 128 random bits behind its cell: who has it may read what was deleted."""
    return f"d_{cell}_{_random(128)}"


def new_session_id(cell: str) -> str:
    """Return a new session id, 128 random bits behind its cell."""
    return f"ss_{cell}_{_random(128)}"


def new_console_session_id(cell: str) -> str:
    """Return a new id of a session of staff, 128 random bits behind the cell that knows them."""
    return f"cs_{cell}_{_random(128)}"


def new_staff_id(cell: str) -> str:
    """Return a new id of a member of staff, 128 random bits behind the cell that knows the login."""
    return f"u_{cell}_{_random(128)}"


def new_survey_id() -> str:
    """Return a new survey id, 80 random bits."""
    return f"s_{_random(80)}"


def new_export_id() -> str:
    """Return a new export id, 80 random bits."""
    return f"x_{_random(80)}"


def export_id_of(asked: str) -> str:
    """Return an export id of 80 bits that follows from what is asked for: whoever asks again names the same."""
    return derived_id("x", asked)[: len("x_") + 16]


def derived_id(prefix: str, asked: str) -> str:
    """Return an id of 128 bits that follows from what is asked for: whoever asks again names the same."""
    digest = hashlib.sha256(asked.encode()).digest()[:16]
    return f"{prefix}_{b32encode(digest).decode('ascii').rstrip('=').lower()}"


def new_client_id() -> str:
    """Return a new id of a machine client, 80 random bits."""
    return f"c_{_random(80)}"


def cell_of_voter(voter_id: str) -> str | None:
    """Return the home cell that a voter id names, or None where it is not a voter id."""
    found = VOTER_ID.fullmatch(voter_id)
    return found["cell"] if found else None


def cell_in(pattern: re.Pattern[str], identifier: str) -> str | None:
    """Return the cell that an id of a kind names (`REGISTRATION_ID`, `SESSION_ID`, ...), or None where it is none."""
    found = pattern.fullmatch(identifier)
    return found["cell"] if found else None


def proofing_case_id(registration_id: str, case_no: int) -> str:
    """Return the id that a case goes by at its provider: `{registration_id}-{case_no}`."""
    return f"{registration_id}-{case_no}"


@dataclass(frozen=True, slots=True)
class BatchId:
    """A batch: the gateway that made it (16 random bytes per process start) and its number there, from 1, no holes."""

    gateway_id: bytes
    number: int

    def __str__(self) -> str:
        return f"{self.gateway_id.hex()}-{self.number}"


def submit_votes_workflow_id(cell: str, batch: BatchId) -> str:
    """`submit-votes/{cell}/{batch_id}`."""
    return f"submit-votes/{cell}/{batch}"


def batch_of_workflow_id(workflow_id: str) -> BatchId:
    """Return the batch that `submit_votes_workflow_id` named. Raises ValueError where it is no such id."""
    gateway_id, _, number = workflow_id.rpartition("/")[2].partition("-")
    return BatchId(bytes.fromhex(gateway_id), int(number))


def run_survey_workflow_id(survey_id: str) -> str:
    """`run-survey/{survey_id}`."""
    return f"run-survey/{survey_id}"


def export_results_workflow_id(survey_id: str, export_id: str) -> str:
    """`export-results/{survey_id}/{export_id}`."""
    return f"export-results/{survey_id}/{export_id}"


def reconcile_survey_workflow_id(survey_id: str, n: str) -> str:
    """`reconcile-survey/{survey_id}/{n}`; `n` says which one: a number, or what started it."""
    return f"reconcile-survey/{survey_id}/{n}"


def rotate_keys_workflow_id(n: str) -> str:
    """`rotate-keys/{n}`; `n` says what started it, and when."""
    return f"rotate-keys/{n}"


def seal_audit_log_workflow_id(log: str, n: str) -> str:
    """`seal-audit-log/{log}/{n}`; `n` says what started it, and when."""
    return f"seal-audit-log/{log}/{n}"


def archive_histories_workflow_id(cell: str, n: str) -> str:
    """`archive-histories/{cell}/{n}`; `n` says what started it, and when."""
    return f"archive-histories/{cell}/{n}"


def register_voter_workflow_id(cell: str, registration_id: str) -> str:
    """`register-voter/{cell}/{registration_id}`."""
    return f"register-voter/{cell}/{registration_id}"


def verify_identity_workflow_id(cell: str, registration_id: str, case_no: int) -> str:
    """`verify-identity/{cell}/{registration_id}/{case_no}`; an appeal is a new case."""
    return f"verify-identity/{cell}/{registration_id}/{case_no}"


def assess_login_workflow_id(cell: str, attempt_id: str) -> str:
    """`assess-login/{cell}/{attempt_id}`."""
    return f"assess-login/{cell}/{attempt_id}"


def recover_account_workflow_id(cell: str, request_id: str) -> str:
    """`recover-account/{cell}/{request_id}`."""
    return f"recover-account/{cell}/{request_id}"


def delete_account_workflow_id(cell: str, voter_ref: str) -> str:
    """`delete-account/{cell}/{voter_ref}`; `voter_ref` is the deletion's id, of which a voter has one."""
    return f"delete-account/{cell}/{voter_ref}"


def break_glass_workflow_id(cell: str, request_id: str) -> str:
    """`break-glass/{cell}/{request_id}`."""
    return f"break-glass/{cell}/{request_id}"


def rejudge_decisions_workflow_id(cell: str, rejudgement_id: str) -> str:
    """`rejudge-decisions/{cell}/{rejudgement_id}`."""
    return f"rejudge-decisions/{cell}/{rejudgement_id}"


def replay_executions_workflow_id(cell: str, replay_id: str) -> str:
    """`replay-executions/{cell}/{replay_id}`."""
    return f"replay-executions/{cell}/{replay_id}"


def unlock_account_workflow_id(cell: str, action_id: str) -> str:
    """`unlock-account/{cell}/{action_id}`."""
    return f"unlock-account/{cell}/{action_id}"


def cell_of_workflow(workflow_id: str) -> str | None:
    """Return the cell in whose namespace a workflow of this id runs, or None for the platform's namespace."""
    process, _, rest = workflow_id.partition("/")
    cell = rest.partition("/")[0]
    return cell if process in _OF_A_CELL and CELL.fullmatch(cell) else None
