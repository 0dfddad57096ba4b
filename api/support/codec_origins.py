"""Which pages may ask the codec server from a browser: those that the settings name, letter by letter."""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.application import problem_response
from domain.errors import ErrorCode

_ASKED_WITH: Final = "authorization, authorization-extras, content-type, x-namespace"  # as Temporal's UI does
_REMEMBERED_S: Final = 600


class CodecOrigins:
    """Answers preflights under a path, and lets no other origin through to it.

    A request without `Origin` is no page's of another origin: browsers add it to every POST.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, origins: Collection[str]) -> None:
        self._app = app
        self._prefix = prefix
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on one request."""
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        named = Headers(scope=scope).getlist("origin")
        if not named:
            await self._app(scope, receive, _with_headers(send, {"vary": "Origin"}))
            return
        if len(named) != 1 or named[0] not in self._origins:
            refused = problem_response(
                Request(scope), ErrorCode.FORBIDDEN, "not from this origin", headers={"vary": "Origin"}
            )
            await refused(scope, receive, send)
            return
        permitted = {
            "access-control-allow-origin": named[0],
            "access-control-allow-credentials": "true",
            "vary": "Origin",
        }
        if scope["method"] == "OPTIONS":
            asked = {
                "access-control-allow-methods": "POST",
                "access-control-allow-headers": _ASKED_WITH,
                "access-control-max-age": str(_REMEMBERED_S),
            }
            await Response(status_code=204, headers=permitted | asked)(scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send, permitted))


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending
