"""Files of histories: what goes in comes out, and what was changed is named."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.contracts.archive import ClosedExecution, HistoryPack
from domain.history_packs import PACK_BYTES, PACK_MOST, NotAPackError, pack, pack_name, packed, packs_of, unpack

CLOSED = datetime(2026, 5, 7, 23, 59, 59, 123456, tzinfo=UTC)


def execution(number: int, size: int = 100) -> ClosedExecution:
    return ClosedExecution(
        workflow_id=f"register-voter/eu/{number}",
        run_id=f"run-{number}",
        workflow_type="RegisterVoter",
        started_at=CLOSED - timedelta(days=1),
        closed_at=CLOSED + timedelta(seconds=number),
        size_bytes=size,
    )


HISTORIES = [packed(execution(number), bytes([number, 10, 0, 13]) * (number + 1)) for number in range(5)]


def test_what_is_packed_comes_out_with_its_place_and_the_same_again_is_the_same_file() -> None:
    content = pack(HISTORIES)
    found = unpack(content)
    assert pack(found) == content == pack(HISTORIES)
    assert [(each.run, each.started_at, each.closed_at, each.events) for each in found] == [
        (each.run, each.started_at, each.closed_at, each.events) for each in HISTORIES
    ]
    for each in found:
        assert content[each.first_byte : each.first_byte + len(each.events)] == each.events


def test_a_history_of_which_a_byte_was_changed_is_named() -> None:
    content, (*_, last) = pack(HISTORIES), unpack(pack(HISTORIES))
    for place in range(last.first_byte, last.first_byte + len(last.events)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(NotAPackError, match="register-voter/eu/4 run-4"):
            unpack(bytes(changed))


def test_a_file_that_was_cut_short_is_never_taken_for_the_whole() -> None:
    content, shorter = pack(HISTORIES[:2]), [pack([]), pack(HISTORIES[:1])]
    taken = []
    for length in range(1, len(content)):
        try:
            assert len(unpack(content[:-length])) < 2, length
        except NotAPackError:
            continue
        taken.append(content[:-length])
    assert sorted(taken, key=len) == shorter  # these are whole files, of fewer histories


@pytest.mark.parametrize("content", [b"", b"comitia", b"comitia-histories/1\n{}\n", b"comitia-histories/1\n[1]\n"])
def test_what_is_no_file_of_histories_is_refused(content: bytes) -> None:
    with pytest.raises(NotAPackError):
        unpack(content)


def test_executions_are_divided_by_number_and_by_size_in_their_order() -> None:
    many = [execution(number) for number in range(PACK_MOST + 1)]
    large = [execution(number, PACK_BYTES // 2) for number in range(3)] + [execution(3, 2 * PACK_BYTES), execution(4)]
    for executions, sizes in ((many, [PACK_MOST, 1]), (large, [2, 1, 1, 1]), ([], [])):
        packs = list(packs_of("eu", executions))
        assert [len(each.executions) for each in packs] == sizes
        assert [each for one in packs for each in one.executions] == executions


def test_a_file_is_named_by_who_is_in_it_and_by_the_day_of_the_first() -> None:
    one, other = (HistoryPack(cell="eu", executions=tuple(map(execution, numbers))) for numbers in ((1, 0), (0, 1)))
    assert pack_name(one).startswith("histories/eu/2026/05/07/")
    assert pack_name(one) != pack_name(other)
