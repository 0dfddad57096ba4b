"""How long a process may stay where it is before somebody should look."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.logins import STEP_UP_LIFETIME
from domain.recovery import LINK_LIFETIME
from domain.registration import CONTACT, PROOFING
from domain.registrations import RegistrationStage

_LATE = timedelta(hours=1)  # behind a time that ends by itself: an outage of an hour is waited out


@dataclass(frozen=True, slots=True)
class Target:
    """A process at a stage, at any where `stage` is empty, and how long it may stay there."""

    process: str
    within: timedelta
    stage: str = ""


TARGETS: Final = (
    Target("SubmitVotes", timedelta(seconds=30)),  # an accepted vote waits for a ledger that is away
    Target("AssessLogin", STEP_UP_LIFETIME + timedelta(minutes=1)),
    Target("RecoverAccount", LINK_LIFETIME + _LATE),
    Target("DeleteAccount", timedelta(hours=24)),  # a provider confirms an erasure within a day
    Target("RegisterVoter", CONTACT.expires_after + _LATE, RegistrationStage.CONTACT_PROOF),
    Target("VerifyIdentity", PROOFING.expires_after + _LATE, RegistrationStage.PROOFING),
    Target("VerifyIdentity", PROOFING.expires_after + _LATE, RegistrationStage.RETRY),
    Target("VerifyIdentity", timedelta(hours=48), RegistrationStage.REVIEW),  # two working days of the provider
    Target("VerifyIdentity", timedelta(minutes=10), RegistrationStage.ACTIVATION),  # a claim waits for another cell
)
