"""Who begins a login at a provider leaves a row, without having shown anything: it is counted as a login is."""

from types import SimpleNamespace
from typing import Any, cast

import httpx

from api.auth.oidc_routes import oidc_routes
from api.http.application import create_application
from tests.api.http.wire import telemetry_for_tests
from tests.limits_world import lonely_limits


class Logins:
    def __init__(self) -> None:
        self.begun = 0

    async def begin(self, *_: Any) -> str:
        self.begun += 1
        return "https://provider.example"


async def test_logins_that_are_only_begun_have_the_limit_of_logins() -> None:
    logins, app = Logins(), create_application("auth", telemetry_for_tests())
    cells: Any = SimpleNamespace(of=lambda _: SimpleNamespace(transactions=None))
    limits = lonely_limits(login_address=(3, 600))
    app.include_router(oidc_routes(cast("Any", logins), cells, ("eu",), limits))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        path = f"/v1/auth/oidc/sandbox/authorize?dpop_jkt={'a' * 43}"
        answers = [(await client.get(path)).status_code for _ in range(5)]
    assert (answers, logins.begun) == ([200, 200, 200, 429, 429], 3)
