"""Routes of pages: a refusal is a page too, and every answer has the headers and the cookie that belong to it."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from api.console.cookies import Cookies
from api.console.pages import SAFE_HEADERS, Pages
from api.console.visits import NotSignedInError
from domain.errors import DomainError, ErrorCode


def page_router(pages: Pages, cookies: Cookies) -> APIRouter:
    """Return a router for pages under the console's path; they are in no document of the API."""

    class PageRoute(APIRoute):
        """A route whose errors are pages."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answered(request: Request) -> Response:
                return finished(request, await _answer(handle, request, pages), cookies)

            return answered

    return APIRouter(
        prefix=pages.site.base, route_class=PageRoute, include_in_schema=False, default_response_class=Response
    )


def finished(request: Request, answer: Response, cookies: Cookies) -> Response:
    """Return an answer with its headers, and the session's next cookie where it is due."""
    for name, value in SAFE_HEADERS.items():
        answer.headers.setdefault(name, value)
    new_cookie = getattr(request.state, "new_cookie", None)
    if new_cookie is not None:
        cookies.set_session(answer, new_cookie)
    return answer


async def _answer(handle: Callable[[Request], Any], request: Request, pages: Pages) -> Response:
    try:
        answer: Response = await handle(request)
    except NotSignedInError as error:
        return _not_signed_in(request, pages, error)
    except RequestValidationError:
        return pages.refusal(request, DomainError(ErrorCode.MALFORMED_REQUEST))
    except DomainError as error:
        return pages.refusal(request, error)
    return answer


def _not_signed_in(request: Request, pages: Pages, error: NotSignedInError) -> Response:
    """Return the page that leads to the sign-in; a part of a page has the browser go to that page."""
    asks = request.method == "GET"
    query = f"?{request.url.query}" if request.url.query else ""
    place = pages.site.place(f"{request.url.path}{query}") if asks else pages.site.base
    to = f"{pages.site.base}/sign-in?to={quote(place, safe='')}"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"hx-redirect": pages.site.base})
    told = {"has_ended": error.has_ended, "lacks_proof": error.lacks_proof, "is_form": not asks}
    return pages.page("not_signed_in.html", None, status=401, to=to, **told)
