"""The table of limits, and who the subjects of places are."""

import pytest

from domain.limits import POLICIES, VOTE_TOKEN, Place, place_of, policies_with


@pytest.mark.parametrize(
    ("client", "place"),
    [
        ("192.0.2.77", Place("192.0.2.77", "192.0.2.0/24")),
        ("::ffff:192.0.2.77", Place("192.0.2.77", "192.0.2.0/24")),
        ("2001:db8:1:2:3:4:5:6", Place("2001:db8:1:2::/64", "2001:db8:1::/48")),
        ("2001:db8:1:2:ffff::", Place("2001:db8:1:2::/64", "2001:db8:1::/48")),
        ("", Place("unknown", "unknown")),
        ("a pipe", Place("unknown", "unknown")),
    ],
)
def test_ipv6_addresses_of_one_customer_are_one_place(client: str, place: Place) -> None:
    assert place_of(client) == place


def test_settings_change_a_limit_by_its_name() -> None:
    changed = policies_with({"vote-token": (5, 60), "vote_device": (7, 70)})
    assert (changed["vote-token"].quota, changed["vote-token"].window_s) == (5, 60)
    assert (changed["vote-device"].quota, changed["vote-device"].window_s) == (7, 70)
    assert changed["vote-address"] == POLICIES["vote-address"]
    assert POLICIES["vote-token"] == VOTE_TOKEN


@pytest.mark.parametrize("changed", [{"vote": (5, 60)}, {"vote-token": (0, 60)}, {"vote-token": (5, 0)}])
def test_a_limit_that_is_none_is_refused(changed: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="limit"):
        policies_with(changed)
