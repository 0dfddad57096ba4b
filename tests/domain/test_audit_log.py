"""Which piece of a sealed log is read again, and when."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.audit_log import tile_in_turn


@pytest.mark.parametrize("tiles", [1, 15, 16, 17, 160, 1_001])
def test_within_as_many_minutes_as_there_are_pieces_all_of_a_log_is_read(tiles: int) -> None:
    begin, step = datetime(2029, 5, 6, 7, 8, 9, tzinfo=UTC), 16
    pieces = -(-tiles // step)
    read = [tile_in_turn(begin + minute * timedelta(minutes=1), tiles, step) for minute in range(pieces)]
    assert sorted(read) == list(range(0, tiles, step))
