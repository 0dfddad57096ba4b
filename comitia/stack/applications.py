"""The application processes of one machine: what each is called, serves as and listens on."""

import json
import sys
from dataclasses import dataclass

from comitia.stack.ports import HOST
from comitia.stack.state import StackState
from integrations.postgres.roles import (
    AUDIT,
    CERTIFICATION,
    CLOSING,
    CODEC,
    CONSOLE,
    IDENTITY,
    RECONCILIATION,
    SEARCH,
    SURVEYS,
    TALLY,
    UNMASKING,
    VOTING,
)
from integrations.settings import Environment


@dataclass(frozen=True, slots=True)
class Application:
    """One process: `python -m {package} {service}`, connected to databases as `roles` and nobody else."""

    package: str
    service: str
    roles: tuple[str, ...]
    port: int  # unless another is asked for; of a worker, where its health and metrics are

    @property
    def name(self) -> str:
        """How it is called in logs, ports and addresses."""
        return f"{self.package}-{self.service}"

    @property
    def command(self) -> tuple[str, ...]:
        """What is run."""
        return (sys.executable, "-m", self.package, self.service)

    @property
    def modules(self) -> tuple[str, str]:
        """What it imports everything with."""
        own = f"api.{self.service}.composition" if self.package == "api" else f"{self.package}.{self.service}"
        return f"{self.package}.__main__", own


API = tuple(
    Application("api", service, roles, port)
    for port, (service, roles) in enumerate(
        {
            "surveys": (SURVEYS, CONSOLE),
            "eligibility": (IDENTITY,),
            "votes": (VOTING,),
            "results": (TALLY,),
            "streams": (TALLY,),
            "auth": (IDENTITY,),
            "webhooks": (IDENTITY,),
            "support": (IDENTITY, CODEC),
            "compliance": (IDENTITY, SEARCH),
        }.items(),
        start=8101,
    )
)
SUPPORT = next(application for application in API if application.service == "support")
# Serves the queue that API processes start eagerly on: it must have made their build the current one before they start.
VOTING_WORKER = Application("workers", "voting", (VOTING,), 8111)
WORKERS = (
    VOTING_WORKER,
    Application("workers", "platform", (SURVEYS, CLOSING), 8112),
    Application("workers", "tally", (TALLY,), 8113),
    Application("workers", "reconciliation", (RECONCILIATION,), 8114),
    Application("workers", "certification", (CERTIFICATION,), 8115),
    Application("workers", "identity", (IDENTITY, UNMASKING), 8116),
    Application("workers", "audit", (AUDIT,), 8117),
)
APPLICATIONS = (*WORKERS, *API)
# What the consoles of services are called, and the paths of their first pages
CONSOLES = (
    ("Cases", "support", "/console"),
    ("Compliance", "compliance", "/console/compliance"),
    ("Exports", "surveys", "/console/surveys"),
)


def application_environment(
    application: Application, state: StackState, port: int, *, environment: Environment, build: str
) -> dict[str, str]:
    """Return the `COMITIA_*` variables of one process."""
    return {
        **state.settings_environment(*application.roles, environment=environment),
        "COMITIA_LISTEN_HOST": HOST,
        "COMITIA_LISTEN_PORT": str(port),
        "COMITIA_PUBLIC_URL": f"http://{HOST}:{port}",
        "COMITIA_BUILD": build,
        "COMITIA_DATA_PROTECTION_MAIL": "data-protection@example.org",
        "COMITIA_STOP_LAME_DUCK_S": "0",  # no balancer has to look first
        **(_codec_origins(state) if application == SUPPORT else {}),
    }


def codec_url_at(port: int | None) -> str:
    """Return where the codec server of `api support` is, if that listens on this port."""
    return f"http://{HOST}:{port}/v1/support/codec" if port else ""


def _codec_origins(state: StackState) -> dict[str, str]:
    """Return the variable that lets Temporal's UI ask, where the stack has one."""
    port = state.ports.get("temporal-ui")
    return {"COMITIA_CODEC_ORIGINS": json.dumps([f"http://{HOST}:{port}"])} if port else {}
