"""The vendors of one machine: one process of sandboxes that speak their protocols, and how every process finds them.

A vendor that the environment names is left to it, for example by `COMITIA_SUMSUB__BASE_URL` and what belongs to it.
"""

import hashlib
import hmac
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from comitia.stack import ports
from comitia.stack.probes import http_ok
from comitia.stack.process import ManagedProcess
from comitia.stack.state import StackState, kept_secret
from integrations.settings import Environment

NAME, MAIL = "sandboxes", "mail"
SANDBOX_PORTS = {NAME: 8120, MAIL: 8125}  # unless others are asked for
_READY_WITHIN_S = 60.0
_PAGE = "COMITIA_RECOVERY_PAGE"  # nothing is served there: links of recovery lead to it, and are read from the mail


class Sandboxes:
    """The sandboxes of a stack. `variables` is what every process of the platform needs to reach them.

    Within `async with` they run; webhooks go to `webhooks_url`, which may be set until then.
    """

    def __init__(
        self,
        state: StackState,
        *,
        environment: Environment = Environment.DEVELOPMENT,
        wanted_ports: Mapping[str, int] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._ports = ports.choose(SANDBOX_PORTS, dict(wanted_ports or {}), say, taken=state.ports.values())
        secret = kept_secret(Path(state.folder) / "sandboxes-secret")
        self.url = f"http://{ports.HOST}:{self._ports[NAME]}"
        self.variables = _variables(self.url, self._ports[MAIL], secret)
        self.webhooks_url = ""
        self.process = ManagedProcess(
            NAME,
            (sys.executable, "-m", "integrations.sandboxes"),
            Path(state.folder) / "logs" / f"{NAME}.log",
            environment={
                **os.environ,
                "COMITIA_ENVIRONMENT": environment.value,
                "COMITIA_LISTEN_HOST": ports.HOST,
                "COMITIA_LISTEN_PORT": str(self._ports[NAME]),
                **self.variables,
            },
            stop_signal=signal.SIGTERM,
        )

    @property
    def ports(self) -> tuple[int, ...]:
        """What they listen on, or will."""
        return tuple(self._ports.values())

    @property
    def pids(self) -> dict[str, int]:
        """The id of the process, by its name, while it runs."""
        return {} if self.process.pid is None else {NAME: self.process.pid}

    async def __aenter__(self) -> Self:
        """Start them and wait until they answer. Raises StartError."""
        self.process.environment = {
            **(self.process.environment or {}),
            "COMITIA_SANDBOXES__WEBHOOKS_URL": self.webhooks_url,
        }
        await self.process.start()
        try:
            await self.process.until(lambda: http_ok(ports.HOST, self._ports[NAME], "/livez"), within_s=_READY_WITHIN_S)
        except BaseException:
            await self.process.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop them; what they kept in memory is gone."""
        await self.process.stop()


def _variables(url: str, mail_port: int, secret: str) -> dict[str, str]:
    """Return the settings of every vendor that the environment does not name."""

    def own(use: str) -> str:
        return hmac.digest(secret.encode(), use.encode(), hashlib.sha256).hex()[:32]

    vendors = {
        "SUMSUB": {
            "BASE_URL": f"{url}/sumsub",
            "APP_TOKEN": f"sbx:{own('sumsub app')}.{own('sumsub token')}",
            "SECRET_KEY": own("sumsub requests"),
            "LEVEL": "basic-kyc-level",
            "WEBHOOK_SECRET": own("sumsub webhooks"),
        },
        "LETTERS": {
            "BASE_URL": f"{url}/letters",
            "API_KEY": own("letters requests"),
            "WEBHOOK_SECRET": own("letters webhooks"),
        },
        "FINGERPRINT": {
            "BASE_URL": f"{url}/fingerprint/eu/v4",
            "API_KEY": own("fingerprint requests"),
            "ORIGINS": json.dumps(["https://vote.example", "android:org.example.vote", "ios:org.example.vote"]),
        },
        "TURNSTILE": {
            "BASE_URL": f"{url}/turnstile/v0",
            "SECRET": own("turnstile"),
            "HOSTNAMES": json.dumps(["localhost"]),
        },
        "BREACHES": {"BASE_URL": f"{url}/breaches"},
        "MAIL": {
            "HOST": ports.HOST,
            "PORT": str(mail_port),
            "SECURITY": "plain",
            "SENDER": "comitia@localhost.example",
        },
        "PASSKEYS": {"RP_ID": "localhost", "ORIGINS": json.dumps(["http://localhost:8106"])},
        "IDENTITY_PROVIDERS__SANDBOX": {
            "ISSUER": f"{url}/issuer/",
            "CLIENT_ID": "comitia",
            "CLIENT_SECRET": own("issuer"),
            "REDIRECT_URI": "http://localhost:8106/callback",
        },
        "STAFF_PROVIDER": {
            "ISSUER": f"{url}/staff/",
            "CLIENT_ID": "comitia-console",
            "CLIENT_SECRET": own("staff issuer"),
        },
    }
    page = {} if _PAGE in os.environ else {_PAGE: "http://localhost:8106/recover"}
    return page | {
        f"COMITIA_{vendor}__{name}": value
        for vendor, values in vendors.items()
        if not any(variable.startswith(f"COMITIA_{vendor}__") for variable in os.environ)
        for name, value in values.items()
    }
