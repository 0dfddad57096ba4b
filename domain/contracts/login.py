"""What a login's decision was made from and what it was: kept, so that it can be replayed and judged again."""

from datetime import datetime
from enum import StrEnum

from domain.contracts.base import Contract
from domain.contracts.registration import HashedValue
from domain.sessions import LoginMethod


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


class FeatureValue(Contract):
    """One value of one level of a feature, as keyed hashes under every live version of the key, oldest first."""

    feature: LoginFeature
    level: int  # 0 is the finest
    hashes: tuple[HashedValue, ...]


class FeatureCount(Contract):
    """How often one value was seen: in logins of this voter, and of all voters of the cell."""

    feature: LoginFeature
    level: int
    mine: int
    everyone: int


class StepUpFactor(StrEnum):
    """What a challenged login is finished with."""

    TOTP = "totp"
    PASSKEY = "passkey"
    RECOVERY_CODE = "recovery_code"
    MAIL_CODE = "mail_code"
    PASSWORD = "password"  # noqa: S105 - of who came by a code
    IDP = "idp"  # the identity provider asked for a second factor in this very login


class AssessLoginInput(Contract):
    """A login whose proof was good.

    `jkt` is the thumbprint of the client's key, `challenge_token`, `nonce` and `device_event_id` what the client
    brought, `seen` the request's network and client. `provider_session` is sealed under the voter's key. `one_step`
    says that it is looked at, judged and recorded in one step. Executions of the release before look in one step
    (`one_look`, which stays: that release may take one up) and record in another; those before that looked in three.
    `proven_at` is when its proof began to be looked at: what ends logins after that ends this one, however late it is
    recorded.
    """

    attempt_id: str
    voter_id: str
    cell: str
    method: LoginMethod
    jkt: str
    challenge_token: str
    nonce: str
    device_event_id: str
    seen: tuple[FeatureValue, ...]
    leak: CredentialLeak
    policy_version: int
    device_policy_version: int
    provider: str = ""
    provider_session: bytes = b""
    second_factor_at_provider: bool = False
    one_look: bool = False
    proven_at: datetime | None = None
    one_step: bool = False


class LookAtDeviceInput(Contract):
    """Asks for the device event of a login, and what the voter's history says of it; the attempt uses the event up."""

    voter_id: str
    device_event_id: str
    nonce: str
    network: FeatureValue
    policy_version: int
    attempt_id: str = ""


class SeenDevice(Contract):
    """What the device event says, judged; `absent` where the vendor could not be asked.

    `device` are the keyed hashes of its id (none where it has none), `values` what it adds to the request's features,
    `place` where it was, sealed under the voter's key. `travel_kmh` as in `LoginSignals`.
    """

    absent: bool = False
    refused: bool = False
    known: bool = False
    score_permille: int = 0
    reasons: tuple[str, ...] = ()
    device: tuple[HashedValue, ...] = ()
    values: tuple[FeatureValue, ...] = ()
    counts: tuple[FeatureCount, ...] = ()
    place: bytes = b""
    travel_kmh: int = -1
    flags: tuple[str, ...] = ()  # what the event says against the device


class RedeemChallengeInput(Contract):
    """Asks for the verdict on a bot challenge's token; repeated for the same attempt it is the same verdict."""

    attempt_id: str
    challenge_token: str
    nonce: str


class RedeemedChallenge(Contract):
    """What the challenge came to."""

    outcome: ChallengeOutcome


class ReadLoginsInput(Contract):
    """Asks what is known of a voter's logins, and of the network that this one comes from."""

    voter_id: str
    method: LoginMethod
    seen: tuple[FeatureValue, ...]


class PastLogins(Contract):
    """A voter's logins and attempts, without this one; `factors` are those that the voter has besides the method."""

    my_logins: int
    all_logins: int
    counts: tuple[FeatureCount, ...]
    account_attempts_per_hour: int
    network_attempts_per_minute: int
    failures_per_hour: int
    factors: tuple[StepUpFactor, ...] = ()


class LoginSight(Contract):
    """Everything that a login is judged by, as one look found it."""

    device: SeenDevice
    challenge: RedeemedChallenge
    past: PastLogins


class LoginCounts(Contract):
    """What a login that was let in adds to the history."""

    values: tuple[FeatureValue, ...]
    device: tuple[HashedValue, ...] = ()
    place: bytes = b""
    at: datetime
    device_flags: tuple[str, ...] = ()


class RecordLoginInput(Contract):
    """A judged login, with everything that it was judged by."""

    request: AssessLoginInput
    signals: LoginSignals
    verdict: LoginVerdict
    counts: LoginCounts
    factors: tuple[StepUpFactor, ...] = ()


class LoginOutcome(StrEnum):
    """How a login ended."""

    ALLOWED = "allowed"
    DENIED = "denied"
    STEPPED_UP = "stepped_up"
    STEP_UP_FAILED = "step_up_failed"
    EXPIRED = "expired"


class JudgedLogin(Contract):
    """A login as one step judged and recorded it, with what it was judged by.

    Without an `outcome` it waits for one of `factors`, and `counts` is what it adds to the history if it is let in.
    """

    signals: LoginSignals
    verdict: LoginVerdict
    outcome: LoginOutcome | None = None
    factors: tuple[StepUpFactor, ...] = ()
    counts: LoginCounts | None = None


class EndLoginInput(Contract):
    """How a challenged login ended; what it adds to the history where it was let in."""

    attempt_id: str
    voter_id: str
    outcome: LoginOutcome
    factor: StepUpFactor | None = None
    counts: LoginCounts


class TriedFactor(Contract):
    """A further factor that somebody brought, and whether it was good."""

    factor: StepUpFactor
    passed: bool


class StepUpState(Contract):
    """Where a challenged login stands; `outcome` once it has ended."""

    outcome: LoginOutcome | None = None
    failures_left: int = 0


class AssessedLogin(Contract):
    """How a login ended, and what it was judged to be at first."""

    attempt_id: str
    outcome: LoginOutcome
    verdict: LoginVerdict
