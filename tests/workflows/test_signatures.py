"""What histories hold is known for every activity and message: what is not known is not shown."""

import re
from pathlib import Path

import temporalio.workflow

from domain.contracts.login import AssessedLogin, AssessLoginInput, StepUpState, TriedFactor
from domain.contracts.registration import NoteStageInput, OpenCaseInput, OpenedCase
from domain.contracts.voting import AnnounceVotesInput, RecordedVotes, RecordVotesInput
from domain.signatures import Signature
from workflows.registry import WORKFLOWS
from workflows.signatures import all_signatures

ROOT = Path(__file__).parents[2]


def test_every_activity_and_every_workflow_is_known() -> None:
    found = all_signatures()
    written = {
        name
        for path in (ROOT / "activities").glob("*.py")
        for name in re.findall(r'activity\.defn\(name="(\w+)"\)', path.read_text())
    }
    assert len(written) > 50
    assert set(found.activities) == written
    assert set(found.workflows) == {temporalio.workflow._Definition.must_from_class(kind).name for kind in WORKFLOWS}
    assert all(each.given is not None and each.came is not None for each in found.workflows.values())


def test_contracts_are_those_of_the_code() -> None:
    found = all_signatures()
    assert found.activities["record_votes"] == Signature(RecordVotesInput, RecordedVotes)
    assert found.activities["announce_votes"] == Signature(AnnounceVotesInput, None)
    assert found.activities["note_stage"].given is NoteStageInput
    assert found.activities["open_case"] == Signature(OpenCaseInput, OpenedCase)
    assert found.workflows["AssessLogin"] == Signature(AssessLoginInput, AssessedLogin)
    assert found.messages["AssessLogin", "step_up"] == Signature(TriedFactor, StepUpState)
    assert found.messages["VerifyIdentity", "evidence_received"] == Signature()
