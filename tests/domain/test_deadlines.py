import pytest

from domain.deadlines import LONGEST_S, timeout_s
from domain.errors import DomainError, ErrorCode


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1500m", 1.5), (b"2S", 2.0), (b"1M", 60.0), (b"250000u", 0.25), (b"99999999n", 0.099999999), (b"0m", 0.0)],
)
def test_the_notation(text: bytes, seconds: float) -> None:
    assert timeout_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"61S", b"9H", b"99999999H"])
def test_nobody_is_waited_for_without_end(text: bytes) -> None:
    assert timeout_s(text) == LONGEST_S


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"1s", b"-1S", b"1.5S", b"123456789m", b"1S ", b"1 S", b"\xd9\xa1S"])
def test_what_is_no_timeout(text: bytes) -> None:
    with pytest.raises(DomainError) as raised:
        timeout_s(text)
    assert raised.value.code is ErrorCode.MALFORMED_REQUEST
