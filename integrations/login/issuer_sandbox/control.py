"""What a person or a test tells the sandbox issuer to do."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from integrations.login.issuer_sandbox.state import Issuer
from integrations.sandboxes.control import ControlModel
from integrations.sandboxes.faults import CONTROL


class Person(ControlModel):
    """Who logs in next; with `error` (`access_denied`, `login_required`) nobody does."""

    subject: str = "auth0|sandbox"
    mail: str = "sandbox@example.org"
    error: str = ""
    claims: dict[str, Any] = Field(default_factory=dict)  # instead of ours in ID tokens; null leaves one out


class Rotation(ControlModel):
    """A new signing key, listed at once or not yet."""

    publish: bool = True


class LogoutClaims(ControlModel):
    """Claims instead of ours in a logout token; null leaves one out."""

    claims: dict[str, Any] = Field(default_factory=dict)


def control_routes(issuer: Issuer) -> APIRouter:
    """Return the control routes."""
    router = APIRouter(prefix=CONTROL)

    @router.put("/person", status_code=204)
    async def person(person: Person) -> None:
        issuer.subject, issuer.mail, issuer.error = person.subject, person.mail, person.error
        issuer.flaw = person.claims

    @router.post("/rotation", status_code=204)
    async def rotate(rotation: Rotation) -> None:
        issuer.rotate(publish=rotation.publish)

    @router.post("/publication", status_code=204)
    async def publish() -> None:
        for key in issuer.keys:
            key.published = True

    @router.post("/logout-tokens")
    async def logout_token(asked: LogoutClaims) -> dict[str, str]:
        return {"logoutToken": issuer.logout_token(**asked.claims)}

    return router
