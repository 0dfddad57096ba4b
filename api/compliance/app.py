"""The application of the service `compliance`: what convinces a third party, and what another policy would do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from api.compliance.evidence import EvidenceDesk
from api.compliance.evidence_routes import evidence_routes
from api.compliance.log_routes import log_routes
from api.compliance.logs import LogDesk
from api.http.access import Principal
from api.http.application import create_application
from domain.evidence_bundles import PublicKeys
from integrations.telemetry.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Evidence:
    """Bundles of cases, the keys that check them, and the dependency that lets in who may export one."""

    desk: EvidenceDesk
    keys: Callable[[], Awaitable[PublicKeys]]
    officers: Callable[..., Awaitable[Principal]]


def create_app(
    logs: LogDesk,
    officers: Callable[..., Awaitable[Principal]],
    evidence: Evidence,
    more: Sequence[APIRouter] = (),
    *,
    telemetry: Telemetry,
    public_url: str = "",
) -> FastAPI:
    """Return the application; `officers` is the dependency that lets in who may read audit logs."""
    summary = "Audit logs and their proofs, the evidence of cases, and decisions judged again"
    app = create_application("compliance", telemetry, summary=summary, public_url=public_url)
    app.include_router(log_routes(logs, officers))
    app.include_router(evidence_routes(evidence.desk, evidence.keys, evidence.officers))
    for router in more:
        app.include_router(router)
    return app
