"""Places at identity providers: so many at one, so many at all, and free again whatever happened."""

import asyncio
from contextlib import ExitStack

import pytest

from api.auth.login_room import AT_ONCE as LOGINS_AT_ONCE
from domain.errors import DomainError, ErrorCode
from integrations.login.exchanges import AT_ALL, AT_ONE, Exchanges


def taken(exchanges: Exchanges, provider: str) -> bool:
    with exchanges.place(provider):
        return True


def refused(exchanges: Exchanges, provider: str) -> bool:
    with pytest.raises(DomainError) as refusal:
        taken(exchanges, provider)
    return refusal.value.code is ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE and refusal.value.retry_after_s is not None


def test_one_that_hangs_leaves_places_to_others_and_all_leave_some_to_who_comes_without() -> None:
    assert AT_ONE < AT_ALL < LOGINS_AT_ONCE
    exchanges = Exchanges(at_one=2, at_all=3)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(exchanges.place("google"))
        assert refused(exchanges, "google")
        assert taken(exchanges, "apple")
        held.enter_context(exchanges.place("apple"))
        assert refused(exchanges, "apple")
        assert refused(exchanges, "facebook")
    assert all(taken(exchanges, provider) for provider in ("google", "apple", "facebook"))


@pytest.mark.parametrize("failure", [asyncio.CancelledError, TimeoutError])
def test_a_place_is_free_again_whatever_happened(failure: type[BaseException]) -> None:
    exchanges = Exchanges(at_one=1, at_all=1)
    with pytest.raises(failure), exchanges.place("google"):
        raise failure
    assert taken(exchanges, "google")
