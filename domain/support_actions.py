"""What support may have done to a case: for whom, at which stages, and for which reasons.

Each is an update of the case's own process, which looks at its stage once more; none is a change of its rows. What
keeps somebody out belongs to no case and outlives each, so that is lifted by a process of its own, `UnlockAccount`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from domain.account_ends import DeletionStage
from domain.cases import CaseKind
from domain.contracts.login import LoginOutcome
from domain.ids import derived_id
from domain.registrations import AT_THE_PROVIDER, ENDED, RegistrationStage
from domain.tokens import Role

UNLOCKS_MAX: Final = 3  # of one account in `UNLOCKS_WITHIN`: each is a new row of guesses for whoever guesses
UNLOCKS_WITHIN: Final = timedelta(days=1)
RESENDS_MAX: Final = 3  # of what staff have sent again in one case: each is a message to somebody who did not ask
ASKED_AGAIN_MAX: Final = 2  # times that staff give a person the time of a stage anew


class SupportAction(StrEnum):
    """What is done."""

    RESEND = "resend"  # the code, or the message that says what the person has to do
    LOOK_NOW = "look_now"  # at the provider, instead of after the next pause
    ASK_AGAIN = "ask_again"  # the person for evidence, with the time for it anew
    CANCEL = "cancel"
    UNLOCK = "unlock"  # the voter need not wait any more after failed proofs, and those count against no login
    REINSTATE = "reinstate"  # an account that is suspended since the provider took its approval back
    ESCALATE = "escalate"  # somebody else should look: the stage stays, and the process can be searched for


OF_THE_ACCOUNT: Final = frozenset({SupportAction.UNLOCK, SupportAction.REINSTATE})  # and of no case's process


class SupportReason(StrEnum):
    """Why; a code, since a reason in words would be personal data in an entry that is kept for good."""

    VOTER_ASKED = "voter_asked"
    MESSAGE_LOST = "message_lost"
    PROVIDER_TOLD = "provider_told"
    OUTAGE_OVER = "outage_over"
    STUCK = "stuck"
    EVIDENCE_UNCLEAR = "evidence_unclear"
    SUSPECTED_FRAUD = "suspected_fraud"
    REGISTERED_TWICE = "registered_twice"
    COMPLAINT = "complaint"


@dataclass(frozen=True, slots=True)
class ActionRule:
    """Who may have something done, for which reasons, and to which cases at which stages."""

    roles: frozenset[Role]
    reasons: frozenset[SupportReason]
    stages: Mapping[CaseKind, frozenset[str]]

    def role_of(self, roles: Collection[Role]) -> Role | None:
        """Return the role by which somebody with these is permitted, or None."""
        return min(self.roles.intersection(roles), default=None)


SENT: Final = "sent"  # of a recovery: its link can be used
STEP_UP: Final = "step_up"  # of a login that waits for a further factor
_STAFF: Final = frozenset({Role.SUPPORT, Role.COMPLIANCE})
_OPEN: Final = frozenset(RegistrationStage) - ENDED
_R: Final = SupportReason

RULES: Final[Mapping[SupportAction, ActionRule]] = {
    SupportAction.RESEND: ActionRule(
        frozenset({Role.SUPPORT}),
        frozenset({_R.VOTER_ASKED, _R.MESSAGE_LOST}),
        {
            CaseKind.REGISTRATION: frozenset(
                {RegistrationStage.CONTACT_PROOF, RegistrationStage.PROOFING, RegistrationStage.RETRY}
            ),
            CaseKind.RECOVERY: frozenset({SENT}),
        },
    ),
    SupportAction.LOOK_NOW: ActionRule(
        _STAFF,
        frozenset({_R.VOTER_ASKED, _R.PROVIDER_TOLD, _R.OUTAGE_OVER, _R.STUCK}),
        {
            CaseKind.REGISTRATION: AT_THE_PROVIDER | {RegistrationStage.ACTIVATION},
            CaseKind.DELETION: frozenset({DeletionStage.REQUESTED, DeletionStage.STOPPED}),
        },
    ),
    SupportAction.ASK_AGAIN: ActionRule(
        _STAFF,
        frozenset({_R.VOTER_ASKED, _R.EVIDENCE_UNCLEAR, _R.OUTAGE_OVER}),
        # In review the provider has what there is, and its word comes first
        {CaseKind.REGISTRATION: frozenset({RegistrationStage.PROOFING, RegistrationStage.RETRY})},
    ),
    SupportAction.CANCEL: ActionRule(
        frozenset({Role.SUPPORT}),
        frozenset({_R.VOTER_ASKED, _R.REGISTERED_TWICE, _R.SUSPECTED_FRAUD}),
        {CaseKind.REGISTRATION: _OPEN, CaseKind.RECOVERY: frozenset({SENT})},
    ),
    SupportAction.UNLOCK: ActionRule(
        frozenset({Role.SUPPORT}),
        frozenset({_R.VOTER_ASKED, _R.OUTAGE_OVER}),
        {
            CaseKind.REGISTRATION: frozenset({RegistrationStage.ACTIVE}),
            CaseKind.LOGIN: frozenset({*LoginOutcome, STEP_UP}),
            CaseKind.RECOVERY: frozenset({SENT, "recovered", "expired"}),
        },
    ),
    SupportAction.REINSTATE: ActionRule(
        frozenset({Role.COMPLIANCE}),
        frozenset({_R.PROVIDER_TOLD, _R.COMPLAINT}),
        {CaseKind.REGISTRATION: frozenset({RegistrationStage.REJECTED})},
    ),
    SupportAction.ESCALATE: ActionRule(
        _STAFF,
        frozenset({_R.STUCK, _R.SUSPECTED_FRAUD, _R.COMPLAINT, _R.EVIDENCE_UNCLEAR}),
        {
            CaseKind.REGISTRATION: _OPEN,
            CaseKind.RECOVERY: frozenset({SENT}),
            CaseKind.DELETION: frozenset(DeletionStage) - {DeletionStage.COMPLETED},
        },
    ),
}


def may_act(action: SupportAction, kind: CaseKind, stage: str) -> bool:
    """Tell whether this is done to cases of a kind at this stage."""
    return stage in RULES[action].stages.get(kind, frozenset())


def action_id_of(actor: str, case_id: str, key: str) -> str:
    """Return the id of what somebody asks for under a key of his own: asked again, it is the same."""
    return derived_id("sa", f"{actor}\n{case_id}\n{key}")
