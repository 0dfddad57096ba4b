"""Refuses whole requests by a look at their bytes, before they are parsed: that is what makes refusing cheap."""

from enum import Enum, auto
from itertools import count
from string import ascii_letters, digits
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.http.lean import LeanRoute, LeanRoutes
from api.http.problems import PROBLEM_CONTENT_TYPE, problem_bytes
from api.http.request_ids import RequestIds
from api.http.shedding import LoadShedder
from domain.errors import CATALOGUE, ErrorCode

RETRY_AFTER_S: Final = (1, 2, 3)  # in turns: those who are refused together do not come back together
_HEAD_END: Final = b"\r\n\r\n"
# Of a header's name (RFC 9110, section 5.6.2). A line that begins with a blank goes on where the one before ended,
# and a name with one behind it is taken for the name alone by whoever is lenient (RFC 9112, section 5).
_TOKEN: Final = b"!#$%&'*+-.^_`|~" + (ascii_letters + digits).encode("ascii")
_TARGETS_MAX: Final = 256
_TARGET_BYTES_MAX: Final = 256


class _Header(Enum):
    """What matters of a header for the look at the bytes."""

    LENGTH = auto()
    AUTHORIZATION = auto()
    FRAMING = auto()  # changes where the request ends or what becomes of the connection


_NAMES: Final = {
    b"content-length": _Header.LENGTH,
    b"authorization": _Header.AUTHORIZATION,
    b"transfer-encoding": _Header.FRAMING,
    b"expect": _Header.FRAMING,
    b"connection": _Header.FRAMING,
    b"upgrade": _Header.FRAMING,
}


class Refusals:
    """Tells by the bytes of one request whether it is refused, and makes the answer."""

    def __init__(self, routes: LeanRoutes, shedder: LoadShedder, request_ids: RequestIds) -> None:
        self._routes = routes
        self._shedder = shedder
        self._request_ids = request_ids
        self._turn = count()
        self._targets: dict[bytes, tuple[LeanRoute, str]] = {}  # of request lines that were seen lately
        self._common = b""
        self._tails: tuple[bytes, ...] = ()

    def of(self, data: bytes) -> LeanRoute | None:
        """Return the route whose request these bytes are where it is refused.

        None where it is taken, and where the bytes are not exactly one plain request: then the parser must look.
        """
        head_end = data.find(_HEAD_END)
        if head_end < 0:
            return None
        head = data[:head_end]
        line, *lines = head.split(b"\r\n")
        if not head.count(b"\n") == head.count(b"\r") == len(lines):
            return None  # a line that not everybody sees as one
        found = self._targets.get(line)
        if found is None and (found := self._target(line)) is None:
            return None
        claimed = _claims(lines, len(data) - head_end - len(_HEAD_END))
        if claimed is None:
            return None
        route, parameter = found
        return route if self._shedder.refusal(route.work, route.gate, parameter, claimed) else None

    def _target(self, line: bytes) -> tuple[LeanRoute, str] | None:
        """Return the route of a request line and its parameter."""
        method, _, rest = line.partition(b" ")
        target, _, version = rest.partition(b" ")
        found = self._routes.match(method, target.partition(b"?")[0])
        if found is None or version != b"HTTP/1.1":
            return None
        if len(line) <= _TARGET_BYTES_MAX:
            if len(self._targets) >= _TARGETS_MAX:
                self._targets.clear()
            self._targets[line] = found
        return found

    def answer(self, common: bytes) -> bytes:
        """Return an answer; `common` are the header lines of every answer at this moment."""
        if common is not self._common:
            self._common = common
            self._tails = tuple(_tail(seconds) for seconds in RETRY_AFTER_S)
        request_id = self._request_ids.accept(None).encode("ascii")
        turn = next(self._turn) % len(RETRY_AFTER_S)
        return b"".join((STATUS_LINE[503], common, b"x-request-id: ", request_id, self._tails[turn]))

    def retry_after_s(self) -> int:
        """Return the seconds to say next."""
        return RETRY_AFTER_S[next(self._turn) % len(RETRY_AFTER_S)]


def _claims(lines: list[bytes], body_bytes: int) -> bytes | None:
    """Return the value of `Authorization`, empty where there is none.

    None where the lines do not say exactly this length, or may change framing or keep-alive.
    """
    authorization, length = b"", None
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            return None
        header = _NAMES.get(name.lower())
        if header is None:
            continue
        if header is _Header.AUTHORIZATION:
            authorization = authorization or value.strip(b" \t")
        elif header is _Header.FRAMING or length is not None:
            return None
        else:
            length = value.strip(b" \t")
    if length is None:
        return authorization if body_bytes == 0 else None
    return authorization if length == b"%d" % body_bytes else None


def _tail(retry_after_s: int) -> bytes:
    assert CATALOGUE[ErrorCode.OVERLOADED].status == 503  # noqa: PLR2004
    _, lines, body = problem_bytes(ErrorCode.OVERLOADED, retry_after_s=retry_after_s)
    entity = b"content-type: %b\r\ncontent-length: %d\r\n" % (PROBLEM_CONTENT_TYPE, len(body))
    return b"\r\n" + entity + lines + b"\r\n" + body
