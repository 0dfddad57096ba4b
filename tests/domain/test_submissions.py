import secrets

import pytest

from domain.ids import BatchId
from domain.submissions import Submission, SubmissionIds

IDS = SubmissionIds(b"k" * 32)
NULLIFIER = secrets.token_bytes(32)
PLACE = Submission(BatchId(secrets.token_bytes(16), 2**40), 499)


def test_an_id_leads_back_to_its_place_for_its_own_voter() -> None:
    assert IDS.read(IDS.make(PLACE, NULLIFIER), NULLIFIER) == PLACE


def test_nobody_else_can_read_or_make_one() -> None:
    made = IDS.make(PLACE, NULLIFIER)
    assert IDS.read(made, secrets.token_bytes(32)) is None
    assert SubmissionIds(b"j" * 32).read(made, NULLIFIER) is None


@pytest.mark.parametrize("place", range(0, 56, 5))
def test_a_changed_character_is_noticed(place: int) -> None:
    made = IDS.make(PLACE, NULLIFIER)
    changed = made[:place] + ("A" if made[place] != "A" else "B") + made[place + 1 :]
    assert IDS.read(changed, NULLIFIER) is None


@pytest.mark.parametrize("noise", ["", "x", "é" * 56, "=" * 56, "A" * 55, "A" * 57, " " * 56])
def test_noise_is_no_id(noise: str) -> None:
    assert IDS.read(noise, NULLIFIER) is None
