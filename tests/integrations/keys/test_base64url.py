"""One spelling for every content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.keys import base64url


@given(st.binary(max_size=100))
def test_round_trip(content: bytes) -> None:
    assert base64url.decode(base64url.encode(content)) == content


@given(st.binary(max_size=12))
def test_whatever_decodes_is_the_one_spelling(text: bytes) -> None:
    try:
        content = base64url.decode(text)
    except ValueError:
        return
    assert base64url.encode(content) == text


@pytest.mark.parametrize(
    "text", [b"A", b"AB", b"AAB", b"AA==", b"AA=", b"+A", b"/A", b"A A", b"AA\n", b"!!!!", b"AAAA=", b"=", b"A\x00AA"]
)
def test_other_spellings_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="canonical"):
        base64url.decode(text)
