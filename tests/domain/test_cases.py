"""A case is where its id says; what is not its own leads nowhere."""

from collections.abc import Callable

import pytest

from domain.case_targets import TARGETS
from domain.cases import CaseKind, case_at, case_of_workflow, known_code
from domain.ids import (
    _OF_A_CELL,
    BatchId,
    assess_login_workflow_id,
    cell_of_workflow,
    delete_account_workflow_id,
    new_attempt_id,
    new_deletion_id,
    new_recovery_id,
    new_registration_id,
    recover_account_workflow_id,
    register_voter_workflow_id,
    run_survey_workflow_id,
    submit_votes_workflow_id,
    verify_identity_workflow_id,
)
from domain.registrations import ENDED
from domain.submissions import Submission, SubmissionIds, claimed_place

CASES = [
    (CaseKind.REGISTRATION, new_registration_id("eu"), register_voter_workflow_id),
    (CaseKind.LOGIN, new_attempt_id("us"), assess_login_workflow_id),
    (CaseKind.RECOVERY, new_recovery_id("eu"), recover_account_workflow_id),
    (CaseKind.DELETION, new_deletion_id("us"), delete_account_workflow_id),
]


@pytest.mark.parametrize(("kind", "case_id", "workflow_id"), CASES, ids=[kind.value for kind, _, _ in CASES])
def test_a_case_is_found_by_its_id_and_by_its_workflow(
    kind: CaseKind, case_id: str, workflow_id: Callable[[str, str], str]
) -> None:
    address = case_at(case_id)
    assert address is not None
    cell = case_id.split("_")[1]
    assert (address.kind, address.cell, address.workflow_id) == (kind, cell, workflow_id(cell, case_id))
    assert case_of_workflow(address.workflow_id) == address
    assert cell_of_workflow(address.workflow_id) == cell


def test_identity_proofing_belongs_to_its_registration() -> None:
    registration = new_registration_id("eu")
    found = case_of_workflow(verify_identity_workflow_id("eu", registration, 2))
    assert found == case_at(registration)


def test_a_batch_of_votes_leads_to_no_case() -> None:
    batch = submit_votes_workflow_id("eu", BatchId(bytes(16), 1))
    assert case_of_workflow(batch) is None
    assert cell_of_workflow(batch) == "eu"


@pytest.mark.parametrize(
    "text", ["", "r_eu", "v_eu_" + "a" * 26, "x" * 56, "register-voter/eu/", run_survey_workflow_id("s_x"), "../r_eu"]
)
def test_anything_else_is_no_case(text: str) -> None:
    assert case_at(text) is None
    assert case_of_workflow(text) is None
    assert cell_of_workflow(text) in {None, "eu"}


def test_a_place_is_claimed_by_whoever_writes_it_and_shown_by_the_key_alone() -> None:
    ids, place = SubmissionIds(b"k" * 32), Submission(BatchId(bytes(range(16)), 7), 3)
    made = ids.make(place, b"n" * 32)
    assert claimed_place(made) == place
    assert ids.read(made, b"n" * 32) == place
    assert ids.read(made, b"m" * 32) is None
    for text in ("", made[:-1], made + "A", "!" * len(made), "ä" * len(made)):
        assert claimed_place(text) is None
        assert ids.read(text, b"n" * 32) is None


@pytest.mark.parametrize(
    ("text", "code"), [("mail_unavailable", "mail_unavailable"), ("a@b.org is taken", "internal"), ("", "internal")]
)
def test_an_error_is_its_code_or_internal(text: str, code: str) -> None:
    assert known_code(text) == code


def test_targets_are_of_stages_that_something_waits_at() -> None:
    assert len({(target.process, target.stage) for target in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        assert target.within.total_seconds() > 0
        # A registration is over before its process is: there may be something to erase, or to be appealed against
        assert target.stage not in ENDED or target.process == "RegisterVoter"
    assert {target.stage for target in TARGETS if target.process == "RegisterVoter"} >= ENDED


def test_whatever_runs_in_a_cell_has_a_target() -> None:
    named = {"".join(word.capitalize() for word in process.split("-")) for process in _OF_A_CELL}
    assert {target.process for target in TARGETS} == named
