"""Policies of login risk as documents: a version of the table, or what would differ from the one in force."""

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from domain.contracts.login import LoginDecision, LoginFeature
from domain.login_risk import CURRENT_LOGIN_POLICY, LOGIN_POLICIES, LoginPolicy, LoginReason
from domain.logins import LEVELS

_TABLES: Final[Mapping[str, TypeAdapter[Any]]] = {
    "level_weights": TypeAdapter(dict[LoginFeature, tuple[float, ...]]),
    "adds": TypeAdapter(dict[LoginReason, float]),
    "forces": TypeAdapter(dict[LoginReason, LoginDecision]),
}
_LARGEST: Final = 1e6  # of any number: nothing overflows
_PERMILLE: Final = frozenset({"challenge_from_permille", "deny_from_permille"})
_SIGNED: Final = frozenset({"prior_log_odds", "unlike_from"})
_WHOLE: Final = frozenset({field.name for field in fields(LoginPolicy) if field.type is int})


def login_policy_of(document: Mapping[str, Any]) -> LoginPolicy:
    """Return the policy that a document names by `version` alone, or describes by what differs from the current one.

    Tables are given whole. A described policy has a version that is none of the table's.

    Raises:
        ValueError: it is no policy; the text names the field.
    """
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise ValueError("`version` is a number from 1")
    given = {name: value for name, value in document.items() if name != "version"}
    if not given:
        if version not in LOGIN_POLICIES:
            raise ValueError(f"there is no version {version}; there are {', '.join(map(str, LOGIN_POLICIES))}")
        return LOGIN_POLICIES[version]
    if version in LOGIN_POLICIES:
        raise ValueError(f"version {version} is in the table: give another one another number")
    if unknown := given.keys() - {field.name for field in fields(LoginPolicy)}:
        raise ValueError(f"no field of a policy: {', '.join(sorted(unknown))}")
    policy = replace(
        CURRENT_LOGIN_POLICY, version=version, **{name: _value(name, value) for name, value in given.items()}
    )
    _require_weights(policy)
    if policy.challenge_from_permille > policy.deny_from_permille:
        raise ValueError("`challenge_from_permille` is not above `deny_from_permille`")
    return policy


def _value(name: str, value: Any) -> Any:
    if name in _TABLES:
        return _table(name, value)
    if type(value) not in ({int} if name in _WHOLE else {int, float}):
        raise ValueError(f"`{name}` is a number")
    if abs(value) > _LARGEST:
        raise ValueError(f"`{name}` is too large")
    if name in _PERMILLE and not 0 <= value <= 1000:  # noqa: PLR2004 - permille
        raise ValueError(f"`{name}` is from 0 to 1000")
    if name not in _SIGNED and value < 0:
        raise ValueError(f"`{name}` is not negative")
    return value


def _table(name: str, value: Any) -> Any:
    try:
        table = _TABLES[name].validate_python(value)
    except ValidationError as error:
        raise ValueError(f"`{name}` is no such table") from error
    if any(isinstance(number, float) and abs(number) > _LARGEST for number in table.values()):
        raise ValueError(f"`{name}` has a number that is too large")
    return MappingProxyType(table)


def _require_weights(policy: LoginPolicy) -> None:
    for feature, levels in LEVELS.items():
        weights = policy.level_weights.get(feature, ())
        if len(weights) != levels or min(weights) < 0 or sum(weights) >= 1:
            raise ValueError(f"`level_weights` of {feature}: {levels} that are not negative and sum to less than 1")
    if policy.prior_logins <= 0:
        raise ValueError("`prior_logins` is above 0")
