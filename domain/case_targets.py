"""How long a process may stay where it is before somebody should look."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.cases import WORKFLOW_TASK
from domain.logins import STEP_UP_LIFETIME
from domain.recovery import LINK_LIFETIME
from domain.registration import APPEAL, CONTACT, PROOFING
from domain.registrations import RegistrationStage
from domain.unmasking import APPROVAL_WITHIN, READABLE_FOR

OPENING: Final = "opening"  # of a case that its provider has not taken up yet: its process has entered no stage
_ERASED = timedelta(hours=24)  # a provider confirms an erasure within a day
_LATE = timedelta(hours=1)  # behind a time that ends by itself: an outage of an hour is waited out


@dataclass(frozen=True, slots=True)
class Target:
    """A process at a stage, at any where `stage` is empty, and how long it may stay there."""

    process: str
    within: timedelta
    stage: str = ""

    @property
    def since_it_began(self) -> bool:
        """Whether a process has been where it is since it began; else its case says since when."""
        return self.stage in {"", OPENING}

    @property
    def noted(self) -> tuple[str, ...]:
        """The stages that such a process has noted, empty for one that has noted none; nothing where it may be any."""
        return () if not self.stage else ("" if self.stage == OPENING else self.stage,)


FAILING: Final = Target("", timedelta(0), WORKFLOW_TASK)  # any process, since nothing else of it goes on
TARGETS: Final = (
    Target("SubmitVotes", timedelta(seconds=30)),  # an accepted vote waits for a ledger that is away
    Target("AssessLogin", STEP_UP_LIFETIME + timedelta(minutes=1)),
    Target("RecoverAccount", LINK_LIFETIME + _LATE),
    Target("DeleteAccount", _ERASED),
    Target("RegisterVoter", CONTACT.expires_after + _LATE, RegistrationStage.CONTACT_PROOF),
    # It is over, and something is still to be closed, erased or told
    Target("RegisterVoter", _ERASED, RegistrationStage.ACTIVE),
    Target("RegisterVoter", _ERASED, RegistrationStage.EXPIRED),
    Target("RegisterVoter", _ERASED, RegistrationStage.CANCELLED),
    Target("RegisterVoter", APPEAL.expires_after + _ERASED, RegistrationStage.REJECTED),
    Target("RegisterVoter", APPEAL.expires_after + _ERASED, RegistrationStage.REFUSED),
    Target("VerifyIdentity", timedelta(minutes=10), OPENING),  # until then the person can do nothing
    Target("VerifyIdentity", PROOFING.expires_after + _LATE, RegistrationStage.PROOFING),
    Target("VerifyIdentity", PROOFING.expires_after + _LATE, RegistrationStage.RETRY),
    Target("VerifyIdentity", timedelta(hours=48), RegistrationStage.REVIEW),  # two working days of the provider
    Target("VerifyIdentity", timedelta(minutes=10), RegistrationStage.ACTIVATION),  # a claim waits for another cell
    Target("UnlockAccount", timedelta(minutes=1)),
    Target("BreakGlass", APPROVAL_WITHIN + READABLE_FOR + _LATE),
    Target("ReplayExecutions", timedelta(hours=24)),  # a period of years takes hours
    Target("RejudgeDecisions", timedelta(hours=24)),
)
