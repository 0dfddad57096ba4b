"""What risk is counted by: thresholds, and the network of an address."""

import pytest

from domain.risk import CHALLENGE_PERMILLE, DENY_PERMILLE, Threshold, network_of


def test_score_rises_with_the_count_and_stays_in_its_range() -> None:
    threshold = Threshold(5, 20)
    scores = [threshold.score_permille(count) for count in range(500)]
    assert scores == sorted(scores)
    assert (scores[0], scores[5], scores[20], scores[-1]) == (0, CHALLENGE_PERMILLE, DENY_PERMILLE, 1000)
    assert scores[19] < DENY_PERMILLE


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("127.0.0.1", "127.0.0.0/24"),
        ("", "unknown"),
        ("unix", "unknown"),
    ],
)
def test_network_of_a_client(client: str, network: str) -> None:
    assert network_of(client) == network
