"""The one way to make a service's application."""

from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from api.http.middleware import HttpMiddleware
from api.http.patience import Patience
from api.http.problems import BY_STATUS, PROBLEM_MEDIA_TYPE, problem_document, problem_headers
from api.http.validation import describe_errors
from domain.errors import CATALOGUE, DomainError, ErrorCode
from integrations.telemetry.http_metrics import HttpMetrics
from integrations.telemetry.telemetry import Telemetry

DEFAULT_BODY_LIMIT: Final = 64 * 1024
PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `code` is stable; `title` and `detail` are for people and may change.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": [str(code) for code in ErrorCode]},
        "detail": {"type": "string"},
        "requestId": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string"},
                    "parameter": {"type": "string"},
                    "in": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}

LIMIT_HEADERS: Final[dict[str, Any]] = {
    "RateLimit-Policy": {
        "description": "The limit that the caller is counted by: `q` requests at once and, evenly, in each `w` seconds "
        "(draft-ietf-httpapi-ratelimit-headers-10).",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "What is left: `r` requests now; in `t` seconds all of them, or, of none, the next one.",
        "schema": {"type": "string"},
    },
}
RETRY_AFTER_HEADER: Final[dict[str, Any]] = {
    "Retry-After": {"description": "Seconds until trying again can help.", "schema": {"type": "integer"}}
}


def problem_responses(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for the codes that a route can answer with, one entry per status."""
    by_status: dict[int | str, list[ErrorCode]] = {}
    for code in codes:
        by_status.setdefault(CATALOGUE[code].status, []).append(code)
    return {status: _problem_response(found) for status, found in by_status.items()}


def _problem_response(codes: list[ErrorCode]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "; ".join(f"`{code}`: {CATALOGUE[code].title}" for code in codes),
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if ErrorCode.RATE_LIMITED in codes:
        response["headers"] = RETRY_AFTER_HEADER | LIMIT_HEADERS
    return response


def problem_response(
    request: Request,
    code: ErrorCode,
    detail: str = "",
    *,
    retry_after_s: int | None = None,
    headers: dict[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> Response:
    """Return a problem as a response."""
    document = problem_document(
        code,
        detail,
        request_id=getattr(request.state, "request_id", ""),
        errors=errors or [],
    )
    return JSONResponse(
        document,
        status_code=CATALOGUE[code].status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers={**problem_headers(code, retry_after_s), **(headers or {})},
    )


def create_application(
    service: str,
    telemetry: Telemetry,
    *,
    summary: str = "",
    public_url: str = "",
    body_limit_bytes: int = DEFAULT_BODY_LIMIT,
    media_types: frozenset[str] = frozenset({"application/json"}),
    http_metrics: HttpMetrics | None = None,
    forms_below: str = "",
) -> FastAPI:
    """Return an application that answers errors as problems and has `/livez`, `/readyz` and `/openapi.json`.

    `/docs` and `/metrics` are there too, but not in production: there the process's health port shows metrics to who
    may reach that.

    Bodies over `body_limit_bytes` get 413, bodies of other `media_types` 415; those of paths below `forms_below` are
    forms. `public_url` is the server that the
    OpenAPI document names. One `HttpMetrics` exists per registry; `app.state.http_metrics` is the one in use.
    """
    metrics = http_metrics if http_metrics is not None else HttpMetrics(telemetry.registry)
    app = FastAPI(
        title=f"Comitia {service}",
        summary=summary or None,
        version="1",
        docs_url=None if telemetry.is_production else "/docs",
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": public_url}] if public_url else None,
        responses=problem_responses(ErrorCode.MALFORMED_REQUEST),
    )
    app.state.http_metrics = metrics
    app.add_middleware(Patience)
    app.add_middleware(
        HttpMiddleware,
        tracing=telemetry.tracing,
        metrics=metrics,
        body_limit_bytes=body_limit_bytes,
        media_types=media_types,
        secure=public_url.startswith("https://"),
        forms_below=forms_below,
    )
    _handle_errors(app)
    _add_operations(app, telemetry)
    _describe_problems(app)
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(DomainError)
    async def domain_error(request: Request, error: DomainError) -> Response:
        return problem_response(request, error.code, error.detail, retry_after_s=error.retry_after_s)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request, ErrorCode.MALFORMED_REQUEST, errors=describe_errors(error.errors()))

    @app.exception_handler(HTTPException)
    async def framework_error(request: Request, error: HTTPException) -> Response:
        code = BY_STATUS.get(error.status_code, ErrorCode.INTERNAL)
        allowed = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
        return problem_response(request, code, headers=allowed)


def _add_operations(app: FastAPI, telemetry: Telemetry) -> None:
    @app.get("/livez", include_in_schema=False)
    async def livez() -> Response:
        return Response(b"ok\n", media_type="text/plain")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        report = await telemetry.readiness.examine()
        return JSONResponse({"ready": report.ready, "checks": report.checks}, status_code=200 if report.ready else 503)

    if telemetry.is_production:
        return

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        content_type, text = telemetry.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})


def _describe_problems(app: FastAPI) -> None:
    """Name the problem's schema in the document, and drop FastAPI's own 422, which is never answered."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = PROBLEM_SCHEMA
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for path in document.get("paths", {}).values():
                for operation in path.values():
                    responses = operation.get("responses", {}) if isinstance(operation, dict) else {}
                    if "HTTPValidationError" in str(responses.get("422", "")):
                        del responses["422"]
                    _describe_limits(responses)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_limits(responses: dict[str, Any]) -> None:
    """Add the headers of a limited route to the answers that are no problem."""
    if "429" not in responses:
        return
    for status, response in responses.items():
        if status.startswith(("2", "3")):
            response["headers"] = {**response.get("headers", {}), **LIMIT_HEADERS}
