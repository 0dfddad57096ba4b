"""Where a registration stands, as its processes show it: to its API, and to whoever searches for stages."""

from collections.abc import Sequence
from datetime import datetime

from temporalio import workflow

from workflows.local_first import local_then_regular
from workflows.policies import COMMIT
from workflows.search_attributes import PROCESS_STAGE

with workflow.unsafe.imports_passed_through():
    from activities.registration import RegistrationActivities
    from domain.contracts.registration import NoteStageInput
    from domain.registrations import RegistrationStage


class StageNotes:
    """Numbers what is noted of one registration, so that a note that arrives late changes nothing."""

    def __init__(
        self, registration_id: str, policy_version: int, revision: int = 0, *, local_first: bool = False
    ) -> None:
        self._registration_id = registration_id
        self._policy_version = policy_version
        self._local_first = local_first
        self.revision = revision
        self.last: NoteStageInput | None = None

    @property
    def stage(self) -> RegistrationStage | None:
        """The stage noted last."""
        return None if self.last is None else self.last.stage

    async def note(
        self,
        stage: RegistrationStage,
        *,
        case_no: int = 0,
        provider: str = "",
        reference: str = "",
        reasons: Sequence[str] = (),
        staff_reasons: Sequence[str] = (),
        expires_at: datetime | None = None,
    ) -> None:
        """Return once the registration's API shows this."""
        self.revision += 1
        self.last = NoteStageInput(
            registration_id=self._registration_id,
            revision=self.revision,
            stage=stage,
            reasons=tuple(reasons),
            staff_reasons=tuple(staff_reasons),
            case_no=case_no,
            provider=provider,
            reference=reference,
            expires_at=expires_at,
            policy_version=self._policy_version,
        )
        workflow.upsert_search_attributes([PROCESS_STAGE.value_set(stage.value)])
        if self._local_first:
            await local_then_regular(RegistrationActivities.note_stage, self.last, COMMIT)
        else:
            await workflow.execute_activity_method(RegistrationActivities.note_stage, self.last, **COMMIT)
