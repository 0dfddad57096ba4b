"""Base64url without padding (RFC 7515, section 2), canonical spellings only."""

from base64 import urlsafe_b64encode
from binascii import Error, a2b_base64

_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")  # what the other alphabet and padding use becomes invalid
_LAST = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}  # characters whose unused low bits are zero
_PADDING = {0: b"", 2: b"==", 3: b"="}


def encode(content: bytes) -> bytes:
    """Return the one spelling of `content`."""
    return urlsafe_b64encode(content).rstrip(b"=")


def encode_text(content: bytes) -> str:
    """Return the one spelling of `content` as text."""
    return encode(content).decode("ascii")


def decode(text: bytes) -> bytes:
    """Return what `text` spells.

    Raises:
        ValueError: padding, another alphabet, white space, an impossible length, or unused bits that are set.
    """
    tail = len(text) & 3
    if tail == 1 or (tail and text[-1] not in _LAST[tail]):
        raise ValueError("not canonical base64url")
    try:
        return a2b_base64(text.translate(_TO_STANDARD) + _PADDING[tail], strict_mode=True)
    except Error as error:
        raise ValueError("not canonical base64url") from error
