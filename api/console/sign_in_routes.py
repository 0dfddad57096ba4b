"""Signing in and out, and the files that pages load."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import RedirectResponse

from api.console.cookies import Cookies, HeldCookie
from api.console.doors import Door
from api.console.pages import WORKER, WORKER_SCOPE, Pages
from api.console.signing_in import SignIn
from api.console.visits import THUMBPRINT, Visit
from api.http.limits import Limits, limited
from api.http.models import QueryText
from domain.errors import DomainError, ErrorCode
from domain.limits import LOGIN_ADDRESS, LOGIN_NETWORK

Answer = Annotated[QueryText, Query(max_length=4096)]


def add_sign_in_routes(
    router: APIRouter, *, pages: Pages, cookies: Cookies, sign_in: SignIn, door: Door, limits: Limits
) -> None:
    """Add the routes; whoever is not signed in is counted for their address."""
    counted = Depends(limited(limits.route(address=LOGIN_ADDRESS, network=LOGIN_NETWORK)))
    Anyone = Annotated[Visit, Depends(door.require())]  # noqa: N806 - a type

    @router.get("/static/{name}")
    async def static(name: Annotated[str, Path(max_length=64)]) -> Response:
        answer = pages.assets.answer(name)
        if answer is None:
            raise DomainError(ErrorCode.NOT_FOUND)
        if name == WORKER:
            answer.headers["service-worker-allowed"] = WORKER_SCOPE
        return answer

    @router.get("/sign-in", dependencies=[counted])
    async def begin(
        to: Annotated[QueryText, Query(max_length=500)] = "",
        key: Annotated[QueryText, Query(pattern=rf"^({THUMBPRINT.pattern})?$")] = "",
    ) -> Response:
        url, kept = await sign_in.begin(pages.site.place(to), key)
        answer = RedirectResponse(url, 303)
        await cookies.keep_sign_in(answer, kept)
        return answer

    @router.get("/back", dependencies=[counted])
    async def back(
        request: Request, state: Answer = "", code: Answer = "", iss: Answer = "", error: Answer = ""
    ) -> Response:
        """Take whoever the provider sends back.

        The answer is a page that leads on by itself, not a redirection: that one would still be the provider's
        request, with which no browser sends the session's cookie.
        """
        kept = await cookies.sign_in(request)
        try:
            if error:
                raise DomainError(ErrorCode.LOGIN_FAILED)
            session, to, key = await sign_in.finish(kept, state, code, iss)
        except DomainError as refused:
            answer = pages.refusal(request, refused)
            cookies.drop_sign_in(answer)
            return answer
        answer = pages.page("signed_in.html", None, to=pages.site.place(to))
        cookies.drop_sign_in(answer)
        held = HeldCookie(session.session_id, session.turn, key)
        cookies.set_session(answer, await cookies.of_session(held))
        return answer

    @router.post("/sign-out")
    async def sign_out(request: Request, visit: Anyone) -> Response:
        await door.leave(visit)
        request.state.new_cookie = None
        answer = pages.page("signed_out.html", None)
        cookies.drop_session(answer)
        return answer
