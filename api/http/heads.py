"""What the head of a request says of where it goes and what follows it, whichever way it says so."""

from collections.abc import Iterable

import httptools


def target_of(url: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a target, of one in absolute form (RFC 9112, section 3.2.2) as well; no fragment.

    Raises:
        HttpParserInvalidURLError: it has no path, as that of `OPTIONS *` and of `CONNECT`.
    """
    if url[:1] == b"/" and b"#" not in url:
        path, _, query = url.partition(b"?")
        return path, query
    target = httptools.parse_url(url)
    return target.path or b"/", target.query or b""


def names_two_hosts(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether readers may differ on where a request goes (RFC 9112, section 3.2)."""
    return [name for name, _ in headers].count(b"host") > 1


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a body follows headers with names in lower case."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ") != b"")
        for name, value in headers
    )
