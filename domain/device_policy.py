"""What a device event is worth: whether it is one of this request, what it says against the device, what follows.

A policy is data with a version, and judging is a function of its arguments: a decision that kept them can be judged
again under another version. What it means that the vendor cannot be asked stands with whoever asks: at a login in the
policy of logins (`LoginReason.DEVICE_UNAVAILABLE`), elsewhere the caller hears that it is away.
"""

import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from domain.devices import DeviceEvent, DeviceFlag
from domain.errors import ErrorCode
from domain.risk import CHALLENGE_PERMILLE, network_of

SCORE_MAX_PERMILLE: Final = 1000


class DeviceUse(StrEnum):
    """What the device is about to be used for."""

    REGISTRATION = "registration"
    LOGIN = "login"
    RECOVERY = "recovery"
    VOTING = "voting"


class DeviceReason(StrEnum):
    """What staff read beside the flags (whose values are reasons too)."""

    # The event is not one of this request
    EVENT_OLD = "event_old"
    EVENT_AHEAD = "event_ahead"  # of our clock
    EVENT_REPLAYED = "event_replayed"  # says the vendor
    EVENT_USED = "event_used"  # say we
    NONCE_MISMATCH = "nonce_mismatch"
    ORIGIN_UNEXPECTED = "origin_unexpected"
    EVENT_INCOMPLETE = "event_incomplete"
    # The device is not known well enough
    UNIDENTIFIED = "unidentified"
    CONFIDENCE_LOW = "confidence_low"
    ADDRESS_DIFFERS = "address_differs"  # the request came from another network than the event
    # How it is used
    MANY_ACCOUNTS_ON_DEVICE = "many_accounts_on_device"
    MANY_DEVICES_ON_ACCOUNT = "many_devices_on_account"


Sign = DeviceFlag | DeviceReason


class DeviceDecision(StrEnum):
    """What follows, from the mildest to the worst."""

    ACCEPTED = "accepted"
    RISKY = "risky"  # a further proof is needed
    REFUSED = "refused"  # this device may not be used for this
    INVALID = "invalid"  # the event proves nothing: another one is needed


@dataclass(frozen=True, slots=True)
class Allowance:
    """Up to `allowed` means nothing, each one more raises the risk, and from `refuse_from` on the device is refused."""

    allowed: int
    more_permille: int
    refuse_from: int | None = None

    def score_permille(self, count: int) -> int:
        """Return how much a count raises the risk."""
        return max(0, count - self.allowed) * self.more_permille

    def refuses(self, count: int) -> bool:
        """Tell whether a count is more than is borne at all."""
        return self.refuse_from is not None and count >= self.refuse_from


@dataclass(frozen=True, slots=True)
class UseRules:
    """What each sign means for one use. A sign that is in neither is not worth mentioning."""

    refusing: frozenset[Sign]
    raising: Mapping[Sign, int]  # by how many permille
    accounts_per_device: Allowance
    devices_per_account: Allowance


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """The rules of every use, and what an event must be to count; a change is a new version."""

    version: int
    rules: Mapping[DeviceUse, UseRules]
    event_age_max: timedelta = timedelta(minutes=5)
    clock_skew_max: timedelta = timedelta(seconds=30)
    confidence_min: float = 0.5
    risky_from_permille: int = CHALLENGE_PERMILLE


@dataclass(frozen=True, slots=True)
class DeviceCircumstances:
    """What we know of the request that an event came with.

    `nonce` is what we issued for it, `used_before` whether the event's id came with another request. The counts are
    of accounts seen on this device and of devices seen on this account, this one included; 0 where nobody counted.
    """

    now: datetime
    nonce: str = field(repr=False)
    used_before: bool
    client_address: str = field(default="", repr=False)
    accounts_on_device: int = 0
    devices_on_account: int = 0


@dataclass(frozen=True, slots=True)
class DeviceVerdict:
    """The decision, by how much the device raises the risk (0 to 1000), and why, in codes that staff can read."""

    decision: DeviceDecision
    score_permille: int
    reasons: tuple[str, ...]
    policy_version: int

    @property
    def error(self) -> ErrorCode | None:
        """What the caller is told where the device may not go on, else None."""
        return _ERRORS.get(self.decision)


_ERRORS: Final = {
    DeviceDecision.RISKY: ErrorCode.STEP_UP_REQUIRED,
    DeviceDecision.REFUSED: ErrorCode.DEVICE_REFUSED,
    DeviceDecision.INVALID: ErrorCode.DEVICE_EVENT_INVALID,
}


def judge_device(
    event: DeviceEvent, circumstances: DeviceCircumstances, use: DeviceUse, policy: DevicePolicy
) -> DeviceVerdict:
    """Return what an event is worth for a use."""
    untrue = tuple(_untrue(event, circumstances, policy))
    if untrue:
        return DeviceVerdict(DeviceDecision.INVALID, SCORE_MAX_PERMILLE, untrue, policy.version)
    rules = policy.rules[use]
    signs: list[Sign] = [*sorted(event.flags), *_weaknesses(event, circumstances, policy)]
    counts = (
        (DeviceReason.MANY_ACCOUNTS_ON_DEVICE, rules.accounts_per_device, circumstances.accounts_on_device),
        (DeviceReason.MANY_DEVICES_ON_ACCOUNT, rules.devices_per_account, circumstances.devices_on_account),
    )
    refusing: list[Sign] = [sign for sign in signs if sign in rules.refusing]
    refusing += [reason for reason, allowance, count in counts if allowance.refuses(count)]
    raised = {sign: rules.raising[sign] for sign in signs if sign in rules.raising and sign not in rules.refusing}
    raised |= {reason: more for reason, allowance, count in counts if (more := allowance.score_permille(count))}
    reasons = tuple(dict.fromkeys((*refusing, *raised)))
    if refusing:
        return DeviceVerdict(DeviceDecision.REFUSED, SCORE_MAX_PERMILLE, reasons, policy.version)
    return _weighed(sum(raised.values()), reasons, policy)


def judge_flags(flags: Iterable[str], use: DeviceUse, policy: DevicePolicy) -> DeviceVerdict:
    """Return what the flags of an event of before are worth for a use, where there is no event of this request.

    Flags are given by their values; one that this release does not know means nothing.
    """
    rules, known = policy.rules[use], frozenset(flags)
    signs = [flag for flag in DeviceFlag if flag in known]
    refusing = tuple(sign for sign in signs if sign in rules.refusing)
    raised = {sign: rules.raising[sign] for sign in signs if sign in rules.raising and sign not in rules.refusing}
    if refusing:
        return DeviceVerdict(DeviceDecision.REFUSED, SCORE_MAX_PERMILLE, (*refusing, *raised), policy.version)
    return _weighed(sum(raised.values()), tuple(raised), policy)


def _weighed(score_permille: int, reasons: tuple[str, ...], policy: DevicePolicy) -> DeviceVerdict:
    score_permille = min(SCORE_MAX_PERMILLE, score_permille)
    risky = score_permille >= policy.risky_from_permille
    decision = DeviceDecision.RISKY if risky else DeviceDecision.ACCEPTED
    return DeviceVerdict(decision, score_permille, reasons, policy.version)


def _untrue(event: DeviceEvent, circumstances: DeviceCircumstances, policy: DevicePolicy) -> Iterator[DeviceReason]:
    """Tell why an event is not one of this request, or not yet; no policy bears any of it."""
    age = circumstances.now - event.at
    if age > policy.event_age_max:
        yield DeviceReason.EVENT_OLD
    if -age > policy.clock_skew_max:
        yield DeviceReason.EVENT_AHEAD
    if DeviceFlag.REPLAYED in event.flags:
        yield DeviceReason.EVENT_REPLAYED
    if circumstances.used_before:
        yield DeviceReason.EVENT_USED
    if not circumstances.nonce or not hmac.compare_digest(event.linked_id.encode(), circumstances.nonce.encode()):
        yield DeviceReason.NONCE_MISMATCH
    if not event.is_ours:
        yield DeviceReason.ORIGIN_UNEXPECTED
    if not event.complete:
        yield DeviceReason.EVENT_INCOMPLETE


def _weaknesses(event: DeviceEvent, circumstances: DeviceCircumstances, policy: DevicePolicy) -> Iterator[DeviceReason]:
    if not event.device_id:
        yield DeviceReason.UNIDENTIFIED
    elif event.confidence < policy.confidence_min:
        yield DeviceReason.CONFIDENCE_LOW
    # A phone may change between its networks, and speak IPv4 here and IPv6 there: a sign, and no proof
    if circumstances.client_address and network_of(circumstances.client_address) != network_of(event.ip_address):
        yield DeviceReason.ADDRESS_DIFFERS


# Who controls the system below our client controls what it shows and sends
_MANIPULATED: Final = frozenset(
    {
        DeviceFlag.BOT,
        DeviceFlag.EMULATOR,
        DeviceFlag.ROOTED,
        DeviceFlag.JAILBROKEN,
        DeviceFlag.CLONED_APP,
        DeviceFlag.TAMPERED,
        DeviceFlag.HOOKED,
    }
)
_SUSPICIOUS: Final[Mapping[Sign, int]] = MappingProxyType(
    {
        DeviceReason.UNIDENTIFIED: CHALLENGE_PERMILLE,
        DeviceReason.CONFIDENCE_LOW: 400,
        DeviceReason.ADDRESS_DIFFERS: 100,
        DeviceFlag.MITM: CHALLENGE_PERMILLE,
        DeviceFlag.TOR: CHALLENGE_PERMILLE,
        DeviceFlag.LOCATION_SPOOFED: 400,
        DeviceFlag.VIRTUAL_MACHINE: 300,
        DeviceFlag.HIGH_ACTIVITY: 300,
        DeviceFlag.PROXY: 250,
        DeviceFlag.VPN: 150,  # many people who have nothing to hide use one
        DeviceFlag.INCOGNITO: 50,
    }
)
_STRICT: Final = UseRules(
    refusing=_MANIPULATED | {DeviceReason.UNIDENTIFIED},  # what has no name cannot be counted
    raising=_SUSPICIOUS,
    accounts_per_device=Allowance(allowed=4, more_permille=200, refuse_from=10),  # a family has one tablet
    devices_per_account=Allowance(allowed=6, more_permille=100),
)
# Who has an account already may look after it from any device, at the price of a further proof
_LENIENT: Final = UseRules(
    refusing=frozenset({DeviceFlag.BOT}),
    raising=MappingProxyType({**_SUSPICIOUS, **dict.fromkeys(_MANIPULATED - {DeviceFlag.BOT}, CHALLENGE_PERMILLE)}),
    accounts_per_device=Allowance(allowed=4, more_permille=150),
    devices_per_account=Allowance(allowed=6, more_permille=100),
)

DEVICE_POLICIES: Final[Mapping[int, DevicePolicy]] = MappingProxyType(
    {
        1: DevicePolicy(
            version=1,
            rules=MappingProxyType(
                {
                    DeviceUse.REGISTRATION: _STRICT,
                    DeviceUse.LOGIN: _LENIENT,
                    DeviceUse.RECOVERY: _LENIENT,
                    DeviceUse.VOTING: _STRICT,
                }
            ),
        )
    }
)
CURRENT_DEVICE_POLICY: Final = DEVICE_POLICIES[1]
