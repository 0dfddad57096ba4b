"""An OpenID Connect issuer in Auth0's dialect as a small real server: it logs in a chosen person without a page."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from hmac import compare_digest
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from domain.federation import challenge_of
from integrations.login.issuer_sandbox.control import control_routes
from integrations.login.issuer_sandbox.state import Issuer
from integrations.sandboxes.faults import Faults, FaultSwitches, fault_routes
from integrations.settings import Settings

NAME = "sandbox"  # of the provider in the settings that this is


async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None:  # noqa: ARG001 - holds nothing
    """Return the issuer that the settings call `sandbox`, or None where they name none."""
    provider = settings.identity_providers.get(NAME)
    return None if provider is None else create_sandbox(Issuer(provider))


def create_sandbox(issuer: Issuer) -> ASGIApp:
    """Return the application of an issuer."""
    faults = Faults()
    app = FastAPI(title="Issuer sandbox", openapi_url=None)
    app.include_router(_discovery_routes(issuer))
    app.include_router(_login_routes(issuer))
    app.include_router(control_routes(issuer))
    app.include_router(fault_routes(faults))
    return FaultSwitches(app, faults, _fault_body)


def _fault_body(status: int) -> dict[str, str]:
    if status == 429:  # noqa: PLR2004
        return {"error": "too_many_requests", "error_description": "Global limit has been reached"}
    return {"error": "server_error", "error_description": "Internal error"}


def _discovery_routes(issuer: Issuer) -> APIRouter:
    router = APIRouter()
    base = issuer.settings.issuer.rstrip("/")

    @router.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        return {
            "issuer": issuer.settings.issuer,
            "authorization_endpoint": f"{base}/authorize",
            **({"token_endpoint": f"{base}/oauth/token"} if issuer.names_token_endpoint else {}),
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "code_challenge_methods_supported": ["S256", "plain"],
            "id_token_signing_alg_values_supported": ["HS256", "RS256", "PS256"],
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
        }

    @router.get("/.well-known/jwks.json")
    async def keys() -> dict[str, Any]:
        malformed = {"kid": "malformed", "kty": "RSA", "use": "sig", "n": "", "e": ""}
        return {"keys": [malformed, *(key.jwk for key in issuer.keys if key.published)]}

    return router


def _login_routes(issuer: Issuer) -> APIRouter:
    router = APIRouter()

    @router.get("/authorize")
    async def authorize(request: Request) -> Response:
        asked = dict(request.query_params)
        back = asked.get("redirect_uri", "")
        subject = issuer.subject or asked.pop("subject", "")
        if not issuer.returns_to(back) or asked.get("client_id") != issuer.settings.client_id:
            # Never back to an address that was not agreed
            return _refusal(400, "invalid_request", "Callback URL mismatch or unknown client")
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            answer = {"error": "invalid_request", "error_description": "Only code with S256"}
        elif issuer.error:
            answer = {"error": issuer.error, "error_description": "The login was not completed"}
        elif not subject:
            return HTMLResponse(_who_are_you(asked))
        else:
            challenge, nonce, max_age = (asked.get(name, "") for name in ("code_challenge", "nonce", "max_age"))
            max_age_s = int(max_age) if max_age.isdigit() else None
            code = issuer.grant(back, challenge, nonce, subject, max_age_s=max_age_s)
            answer = {"code": code}
        query = urlencode({**answer, "state": asked.get("state", "")})
        return RedirectResponse(f"{back}?{query}", 302)

    @router.post("/oauth/token")
    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        secret = issuer.settings.client_secret
        if form.get("client_id") != issuer.settings.client_id or (
            secret is not None and not compare_digest(form.get("client_secret", ""), secret.get_secret_value())
        ):
            return _refusal(401, "invalid_client", "Unauthorized")
        if form.get("grant_type") != "authorization_code":
            return _refusal(400, "unsupported_grant_type", "Unsupported grant type")
        granted = issuer.codes.pop(form.get("code", ""), None)
        if (
            granted is None
            or granted.expires_at < issuer.now()
            or granted.redirect_uri != form.get("redirect_uri")
            or challenge_of(form.get("code_verifier", "")) != granted.challenge
        ):
            return _refusal(403, "invalid_grant", "Invalid authorization code")
        return JSONResponse(
            {
                "access_token": issuer.sign({"iss": issuer.settings.issuer, "sub": granted.subject}, typ="at+jwt"),
                "id_token": issuer.id_token(granted.subject, granted.nonce, auth_time=granted.auth_time),
                "token_type": "Bearer",
                "expires_in": 86_400,
                "scope": issuer.settings.scope,
            }
        )

    return router


def _who_are_you(asked: Mapping[str, str]) -> str:
    """Return a page on which somebody says who they are, and is believed."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in asked.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sandbox issuer</title></head><body><main>'
        "<h1>Sandbox issuer</h1><p>Whoever you say you are is believed: <code>comitia staff add</code> decides what "
        f'you may do.</p><form method="get">{hidden}<label>Subject <input name="subject" required autofocus></label> '
        "<button>Sign in</button></form></main></body></html>"
    )


def _refusal(status: int, error: str, description: str) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": description}, status)
