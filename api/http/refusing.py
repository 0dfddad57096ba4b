"""Refuses whole requests by a look at their bytes, before they are parsed: that is what makes refusing cheap."""

from itertools import count
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.http.lean import LeanRoute, LeanRoutes
from api.http.problems import PROBLEM_CONTENT_TYPE, problem_bytes
from api.http.request_ids import RequestIds
from api.http.shedding import LoadShedder
from domain.errors import CATALOGUE, ErrorCode

RETRY_AFTER_S: Final = (1, 2, 3)  # in turns: those who are refused together do not come back together
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_AUTHORIZATION: Final = b"\r\nauthorization:"


class Refusals:
    """Tells by the bytes of one request whether it is refused, and makes the answer."""

    def __init__(self, routes: LeanRoutes, shedder: LoadShedder, request_ids: RequestIds) -> None:
        self._routes = routes
        self._shedder = shedder
        self._request_ids = request_ids
        self._turn = count()
        self._common = b""
        self._tails: tuple[bytes, ...] = ()

    def of(self, data: bytes) -> LeanRoute | None:
        """Return the route whose request these bytes are where it is refused.

        None where it is taken, and where the bytes are not exactly one plain request: then the parser must look.
        """
        head_end = data.find(_HEAD_END)
        if head_end < 0:
            return None
        line_end = data.find(b"\r\n")
        method, _, rest = data[:line_end].partition(b" ")
        target, _, version = rest.partition(b" ")
        found = self._routes.match(method, target.partition(b"?")[0])
        if found is None or version != b"HTTP/1.1":
            return None
        head = data[line_end : head_end + 2].lower()
        if not _is_whole(head, len(data) - head_end - len(_HEAD_END)):
            return None
        route, parameter = found
        at = head.find(_AUTHORIZATION)
        authorization = (
            b"" if at < 0 else data[line_end + at + len(_AUTHORIZATION) : data.find(b"\r\n", line_end + at + 2)]
        )
        return route if self._shedder.refusal(route.work, route.gate, parameter, authorization.strip()) else None

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


def _is_whole(head: bytes, body_bytes: int) -> bool:
    """Tell whether a lower-cased head says exactly this length, and nothing that changes framing or keep-alive."""
    if (
        b"\r\ntransfer-encoding" in head  # one by one: a loop over them would cost as much as all the rest
        or b"\r\nexpect:" in head
        or b"\r\nconnection:" in head
        or b"\r\nupgrade:" in head
        or b"\r\n " in head
        or b"\r\n\t" in head
    ):
        return False
    at = head.find(_LENGTH)
    if at < 0:
        return body_bytes == 0
    value = head[at + len(_LENGTH) : head.find(b"\r\n", at + 2)].strip()
    return value.isdigit() and int(value) == body_bytes and head.find(_LENGTH, at + 2) < 0


def _tail(retry_after_s: int) -> bytes:
    assert CATALOGUE[ErrorCode.OVERLOADED].status == 503  # noqa: PLR2004
    _, lines, body = problem_bytes(ErrorCode.OVERLOADED, retry_after_s=retry_after_s)
    entity = b"content-type: %b\r\ncontent-length: %d\r\n" % (PROBLEM_CONTENT_TYPE, len(body))
    return b"\r\n" + entity + lines + b"\r\n" + body
