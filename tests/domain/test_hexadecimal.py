"""One spelling of bytes, and none besides."""

import pytest

from domain.hexadecimal import bytes_of


def test_bytes_come_back() -> None:
    every = bytes(range(256))
    assert bytes_of(every.hex()) == every
    assert bytes_of("") == b""


@pytest.mark.parametrize("text", ["0", "AA", "aA", " 00", "00 ", "00 11", "00\n", "0x00", "gg", "\uff10\uff10"])
def test_another_spelling_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        bytes_of(text)
