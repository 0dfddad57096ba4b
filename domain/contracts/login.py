"""What a login's decision was made from and what it was: kept, so that it can be replayed and judged again."""

from enum import StrEnum

from domain.contracts.base import Contract


class LoginFeature(StrEnum):
    """What is compared with a voter's own history; each has levels, from the finest to the coarsest."""

    NETWORK = "network"  # the address's network, its operator, its country
    CLIENT = "client"  # the user agent, browser and system, kind of device
    DEVICE = "device"  # the vendor's device id


class FeatureSighting(Contract):
    """How often the values of one feature were seen before, level by level, finest first.

    `mine`: logins of this voter with that value; `everyone`: logins of all voters of the cell with it.
    """

    feature: LoginFeature
    mine: tuple[int, ...]
    everyone: tuple[int, ...]


class ChallengeOutcome(StrEnum):
    """What the bot challenge came to."""

    PASSED = "passed"
    FAILED = "failed"
    ABSENT = "absent"  # the vendor could not be asked


class CredentialLeak(StrEnum):
    """Whether the credential is known from a breach."""

    NONE = "none"
    LEAKED = "leaked"
    ABSENT = "absent"  # could not be looked up
    NOT_APPLICABLE = "not_applicable"  # the proof was no password


class LoginSignals(Contract):
    """Everything that a login is judged by; numbers and codes, nothing that names anybody.

    `my_logins` and `all_logins` are the sizes of the two histories. `device_score_permille` and `device_reasons` are
    the device policy's. `travel_kmh` is the speed that the way from the last login would have taken, -1 where unknown.
    Counts of attempts include this one.
    """

    my_logins: int
    all_logins: int
    sightings: tuple[FeatureSighting, ...]
    challenge: ChallengeOutcome
    device_known: bool
    device_refused: bool = False
    device_absent: bool = False
    device_score_permille: int = 0
    device_reasons: tuple[str, ...] = ()
    account_attempts_per_hour: int = 1
    network_attempts_per_minute: int = 1
    failures_per_hour: int = 0
    travel_kmh: int = -1
    leak: CredentialLeak = CredentialLeak.NOT_APPLICABLE


class LoginDecision(StrEnum):
    """What follows."""

    ALLOW = "ALLOW"
    CHALLENGE = "CHALLENGE"
    DENY = "DENY"


class LoginVerdict(Contract):
    """A decision, the probability of an attack that it stands for (permille), and why, in codes that staff can read."""

    decision: LoginDecision
    score_permille: int
    reasons: tuple[str, ...]
    policy_version: int
