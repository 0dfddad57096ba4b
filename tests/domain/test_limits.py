"""The table of limits, and who the subjects of places are."""

import pytest

from domain.limits import POLICIES, VOTE_TOKEN, place_of, policies_with


@pytest.mark.parametrize(
    ("client", "place"),
    [
        ("192.0.2.77", (b"\xc0\x00\x02\x4d", b"\xc0\x00\x02")),
        ("::ffff:192.0.2.77", (b"\xc0\x00\x02\x4d", b"\xc0\x00\x02")),
        ("2001:db8:1:2:3:4:5:6", (bytes.fromhex("20010db800010002"), bytes.fromhex("20010db80001"))),
        ("2001:db8:1:2:ffff::", (bytes.fromhex("20010db800010002"), bytes.fromhex("20010db80001"))),
        ("", (b"", b"")),
        ("a pipe", (b"", b"")),
    ],
)
def test_ipv6_addresses_of_one_customer_are_one_place(client: str, place: tuple[bytes, bytes]) -> None:
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
