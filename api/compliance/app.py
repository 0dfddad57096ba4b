"""The application of the service `compliance`: what convinces a third party, and what another policy would do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from api.compliance.evidence import EvidenceDesk
from api.compliance.evidence_routes import evidence_routes
from api.compliance.log_routes import log_routes
from api.compliance.logs import LogDesk
from api.compliance.pages import CompliancePages, add_compliance_pages
from api.compliance.search_pages import SearchPages, add_search_pages
from api.compliance.searching import SearchDesk
from api.compliance.work_pages import WorkDesks, WorkPages, add_work_pages
from api.console.opening import Console
from api.http.access import Principal
from api.http.application import create_application
from api.http.limits import Limits
from domain.evidence_bundles import PublicKeys
from integrations.telemetry.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Evidence:
    """Bundles of cases, the keys that check them, and the dependency that lets in who may export one."""

    desk: EvidenceDesk
    keys: Callable[[], Awaitable[PublicKeys]]
    officers: Callable[..., Awaitable[Principal]]


@dataclass(frozen=True, slots=True)
class ConsoleDesks:
    """A console, and what its pages have besides logs and evidence."""

    console: Console
    work: WorkDesks
    search: SearchDesk
    limits: Limits


def create_app(
    logs: LogDesk,
    officers: Callable[..., Awaitable[Principal]],
    evidence: Evidence,
    more: Sequence[APIRouter] = (),
    *,
    telemetry: Telemetry,
    public_url: str = "",
    console: ConsoleDesks | None = None,
) -> FastAPI:
    """Return the application; `officers` is the dependency that lets in who may read audit logs.

    With a console there are its pages besides.
    """
    app = create_application(
        "compliance",
        telemetry,
        summary="Audit logs and their proofs, the evidence of cases, executions replayed and decisions judged again",
        public_url=public_url,
        forms_below="" if console is None else console.console.pages.site.base,
    )
    app.include_router(log_routes(logs, officers))
    app.include_router(evidence_routes(evidence.desk, evidence.keys, evidence.officers))
    for router in more:
        app.include_router(router)
    if console is not None:
        made = console.console
        add_compliance_pages(made, CompliancePages(made, logs, evidence.desk, console.work.replays))
        add_work_pages(made, WorkPages(made, console.work), console.limits)
        add_search_pages(made, SearchPages(made, console.search))
        app.include_router(made.router)
    return app
