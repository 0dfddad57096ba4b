"""Registrations begun at ten a second, with vendors that answer in 20 ms: how long the first answer takes."""

import secrets
from collections import Counter

import httpx
from temporalio.client import Client, WorkflowExecutionStatus

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import percentile
from benchmarks.pacing import paced
from benchmarks.processes import HOST, CpuWatch
from benchmarks.products import pids, services
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.vendors import vendors
from domain.ids import register_voter_workflow_id

RATE = 10  # registrations a second
_SECONDS = 20
_WARM = RATE * 2  # before the clock starts
_PATH = "/v1/registrations"
_CREATED = 201
_STORED = "SELECT count(*) FROM identity.registration WHERE registration_id = ANY ($1)"


async def measure(run: Run) -> list[Line]:
    """Let different people begin on devices of their own; every answer has its row and its execution."""
    ground = run.ground
    async with (
        vendors(ground) as there,
        services(ground, ("workers-identity", "api-auth"), there.variables) as supervisor,
        httpx.AsyncClient(base_url=supervisor.url("auth"), timeout=60, trust_env=False) as client,
    ):
        nonces = [secrets.token_hex(16) for _ in range(_WARM + RATE * _SECONDS)]
        bodies = [
            {
                "region": "DE",
                "mail": f"{secrets.token_hex(8)}@example.org",
                "challengeToken": token,
                "challengeNonce": nonce,
                "deviceEventId": event,
                "cell": CELL,
            }
            for nonce, (token, event) in zip(nonces, await there.people("register", nonces, HOST), strict=True)
        ]
        await there.slow_down("turnstile", "fingerprint")

        async def begin(body: dict[str, str]) -> tuple[int, str]:
            answer = await client.post(_PATH, json=body)
            return answer.status_code, answer.json().get("registrationId", "")

        warm = await paced(begin, bodies[:_WARM], RATE)
        watch = CpuWatch(pids(ground, supervisor))
        watch.start()
        answers = await paced(begin, bodies[_WARM:], RATE)
        cores = ", ".join(f"{name} {value:.2f}" for name, value in watch.cores().items() if value >= 0.005)
        begun = {registration_id for (status, registration_id), _ in (*warm, *answers) if status == _CREATED}
        stored = await ground.owner.fetchval(_STORED, list(begun))
        checked = check_equal(
            "registrations", begun=len(begun), stored=int(stored), executions=await _running(ground, begun)
        )
    statuses = Counter(status for (status, _), _ in answers)
    waits = sorted(waited for _, waited in answers)
    detail = (
        f"{RATE}/s for {_SECONDS} s, vendors at 20 ms, p50 {percentile(waits, 0.5):.0f} ms; answers {dict(statuses)}; "
        f"cores: {cores}; {checked}"
    )
    return [
        line("registrations begun", statuses[_CREATED] / _SECONDS, "registrations/s", Goal(at_least=RATE), detail),
        line("a registration's first answer, p99", percentile(waits, 0.99), "ms", Goal(at_most=150), detail),
    ]


async def _running(ground: Ground, begun: set[str]) -> int:
    address = ground.settings.cells[CELL].temporal
    client = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    found = 0
    for registration_id in begun:
        described = await client.get_workflow_handle(register_voter_workflow_id(CELL, registration_id)).describe()
        found += described.status is WorkflowExecutionStatus.RUNNING
    return found
