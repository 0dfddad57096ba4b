"""Refuses whole requests by a look at their bytes, before they are parsed: that is what makes refusing cheap."""

from itertools import count
from string import ascii_letters, digits
from typing import Final, NamedTuple, TypeVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.http.lean import LeanRoute, LeanRoutes
from api.http.problems import PROBLEM_CONTENT_TYPE, problem_bytes
from api.http.request_ids import RequestIds
from api.http.shedding import LoadShedder
from domain.errors import CATALOGUE, ErrorCode

RETRY_AFTER_S: Final = (1, 2, 3)  # in turns: those who are refused together do not come back together
_HEAD_END: Final = b"\r\n\r\n"
_BLANK: Final = b" \t"
# Of a header's name (RFC 9110, section 5.6.2). A line that begins with a blank goes on where the one before ended,
# and a name with one behind it is taken for the name alone by whoever is lenient (RFC 9112, section 5).
_TOKEN: Final = b"!#$%&'*+-.^_`|~" + (ascii_letters + digits).encode("ascii")
_SEEN_MAX: Final = 256
_SEEN_BYTES_MAX: Final = 256
_AUTHORIZATION: Final = b"authorization:"
_LENGTH: Final = b"content-length:"
# Changes where the request ends or what becomes of the connection
_FRAMING: Final = frozenset({b"transfer-encoding:", b"expect:", b"connection:", b"upgrade:"})

_Names = tuple[bytes, ...]
_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class _Shape(NamedTuple):
    """Which lines of a head matter, by their number; -1: there is none."""

    authorization: int
    length: int


class Refusals:
    """Tells by the bytes of one request whether it is refused, and makes the answer."""

    def __init__(self, routes: LeanRoutes, shedder: LoadShedder, request_ids: RequestIds) -> None:
        self._routes = routes
        self._shedder = shedder
        self._request_ids = request_ids
        self._turn = count()
        # What was seen lately of what comes again and again: request lines, and the names of a client's headers
        self._targets: dict[bytes, tuple[LeanRoute, str]] = {}
        self._shapes: dict[_Names, _Shape] = {}
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
        found = self._targets.get(line) or self._target(line)
        names = tuple([line[: line.find(b":") + 1] for line in lines])
        shape = self._shapes.get(names) or self._shape(names)
        if found is None or shape is None:
            return None
        length = lines[shape.length][len(_LENGTH) :].strip(_BLANK) if shape.length >= 0 else b"0"
        if length != b"%d" % (len(data) - head_end - len(_HEAD_END)):
            return None
        claimed = lines[shape.authorization][len(_AUTHORIZATION) :].strip(_BLANK) if shape.authorization >= 0 else b""
        route, parameter = found
        return route if self._shedder.refusal(route.work, route.gate, parameter, claimed) else None

    def _target(self, line: bytes) -> tuple[LeanRoute, str] | None:
        """Return the route of a request line and its parameter."""
        method, _, rest = line.partition(b" ")
        target, _, version = rest.partition(b" ")
        found = self._routes.match(method, target.partition(b"?")[0])
        if found is None or version != b"HTTP/1.1":
            return None
        _keep(self._targets, line, len(line), found)
        return found

    def _shape(self, names: _Names) -> _Shape | None:
        """Return what matters of headers by their names, each with its colon.

        None where one is no name, where there are two of what matters, and where one changes framing or keep-alive.
        """
        lowered = [name.lower() for name in names]
        if any(name == b":" or name[-1:] != b":" or name[:-1].translate(None, _TOKEN) for name in names):
            return None
        if not _FRAMING.isdisjoint(lowered) or max(lowered.count(_LENGTH), lowered.count(_AUTHORIZATION)) > 1:
            return None
        length, authorization = (lowered.index(name) if name in lowered else -1 for name in (_LENGTH, _AUTHORIZATION))
        found = _Shape(authorization, length)
        _keep(self._shapes, names, sum(map(len, names)), found)
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


def _keep(seen: dict[_Key, _Found], key: _Key, size_bytes: int, found: _Found) -> None:
    """Remember what was found, unless it takes too much room; everything is forgotten when there is too much."""
    if size_bytes <= _SEEN_BYTES_MAX:
        if len(seen) >= _SEEN_MAX:
            seen.clear()
        seen[key] = found


def _tail(retry_after_s: int) -> bytes:
    assert CATALOGUE[ErrorCode.OVERLOADED].status == 503  # noqa: PLR2004
    _, lines, body = problem_bytes(ErrorCode.OVERLOADED, retry_after_s=retry_after_s)
    entity = b"content-type: %b\r\ncontent-length: %d\r\n" % (PROBLEM_CONTENT_TYPE, len(body))
    return b"\r\n" + entity + lines + b"\r\n" + body
