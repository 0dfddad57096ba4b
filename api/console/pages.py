"""Pages of the console: templates in which everything is escaped, and what every answer of the console says of itself.

Nothing is loaded from elsewhere and nothing runs that is written in a page, so a script in a voter's name is text.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel

from api.console.visits import Site, Visit
from domain.errors import CATALOGUE, DomainError

SAFE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), clipboard-read=()",
        # To our own pages alone; without any, a browser says of its forms that they come from `null`
        "referrer-policy": "same-origin",
    }
)
WORKER: Final = "worker.js"
WORKER_SCOPE: Final = "/console"  # below which all consoles of a host are
_FOLDER: Final = Path(__file__).parent
_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


class Assets:
    """The files that pages load, from memory; their addresses change with their content."""

    def __init__(self, folder: Path = _FOLDER / "static") -> None:
        self._files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in _MEDIA_TYPES}
        self._digests = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in self._files.items()}

    def address(self, base: str, name: str) -> str:
        """Return where a file is."""
        return f"{base}/static/{name}?v={self._digests[name]}"

    def answer(self, name: str) -> Response | None:
        """Return a file, or None."""
        content = self._files.get(name)
        if content is None:
            return None
        kept = {"cache-control": "private, max-age=86400, immutable"}
        return Response(content, media_type=_MEDIA_TYPES[Path(name).suffix], headers=kept)


class Pages:
    """Renders the pages of one service."""

    def __init__(self, site: Site, folder: Path | None = None) -> None:
        """Take templates from `folder` of the service, and what all services share from the console's own."""
        self.site = site
        self.assets = Assets()
        self._templates = _templates([path for path in (folder, _FOLDER / "templates") if path is not None])
        self._templates.filters |= {"plain": plain, "words": words, "moment": moment, "path": path_segment}
        self._templates.globals |= {
            "base": site.base,
            "links": site.others,
            # Over http consoles of one host are of many origins, which share the cookie and no key
            "worker": {"file": WORKER, "scope": WORKER_SCOPE} if site.is_secure else None,
            "new_key": partial(secrets.token_urlsafe, 16),
            "asset": lambda name: self.assets.address(site.base, name),
        }

    def part(self, template: str, visit: Visit | None, **values: Any) -> Markup:
        """Return a template filled in, as a part of another; `visit` is None for whoever is not signed in."""
        return Markup(self._templates.get_template(template).render(visit=visit, **values))  # noqa: S704 - escaped

    def page(self, template: str, visit: Visit | None, *, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        return HTMLResponse(self.part(template, visit, **values), status)

    def live(self, visit: Visit, part: str, told: str = "") -> Response:
        """Return a part of a page that has changed, and what is told of that to whoever does not see it."""
        said = self.part("told.html", visit, told=told) if told else ""
        return HTMLResponse(part + said)

    def to(self, path: str, **query: str) -> Response:
        """Return what sends a browser on to another page after a form."""
        asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return RedirectResponse(f"{self.site.base}{path}{'?' if asked else ''}{asked}", 303)

    def refusal(self, request: Request, error: DomainError) -> Response:
        """Return an error as a page, or as a part of one: where that renews itself, beside what it shows still."""
        spec, is_part = CATALOGUE[error.code], "hx-request" in request.headers
        answer = self.page(
            "refused_part.html" if is_part else "refused.html",
            getattr(request.state, "visit", None),
            status=spec.status,
            title=spec.title,
            code=error.code.value,
            detail=error.detail,
            request_id=getattr(request.state, "request_id", ""),
            may_retry=spec.retryable,
        )
        if error.retry_after_s is not None:
            answer.headers["retry-after"] = str(error.retry_after_s)
        if is_part and request.method == "GET":
            answer.headers.update({"hx-retarget": "#stale", "hx-reswap": "innerHTML"})
        return answer


def _templates(folders: Sequence[Path]) -> Environment:
    """Return the templates of some folders, the first that has a name; everything that is put into one is escaped."""
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def moment(at: datetime) -> str:
    """Return an instant for people, in UTC to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def words(code: str) -> str:
    """Return a code as words: `contact_proof` as `contact proof`."""
    return str(code).replace("_", " ")


def plain(value: Any) -> str:
    """Return a value of a history as text: what is no single value, as JSON has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def path_segment(value: str) -> str:
    """Return a value as one segment of a path."""
    return quote(value, safe="")


def digest_of(*shown: BaseModel | None) -> str:
    """Return what tells whether something is shown as it was before: then nothing has to be replaced."""
    told = "\n".join("" if each is None else each.model_dump_json() for each in shown)
    return hashlib.sha256(told.encode()).hexdigest()[:24]
