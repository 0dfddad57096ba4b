import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from integrations.sandboxes.faults import Faults, FaultSwitches, fault_routes
from integrations.sandboxes.mounting import mount
from integrations.sandboxes.serving import serve_sandboxes


class Counted:
    """A sandbox that counts, so that an effect can be told from an answer."""

    def __init__(self) -> None:
        self.count = 0
        faults = Faults()
        app = FastAPI()
        app.include_router(fault_routes(faults))

        @app.post("/count")
        async def count() -> dict[str, int]:
            self.count += 1
            return {"count": self.count}

        self.app = FaultSwitches(app, faults, lambda status: {"code": status})


@pytest_asyncio.fixture(loop_scope="session")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve_sandboxes(mount({"one": Counted().app})) as address,
        httpx.AsyncClient(base_url=f"{address}/one", timeout=5) as client,
    ):
        yield client


async def switch(client: httpx.AsyncClient, **fault: object) -> None:
    assert (await client.post("/_control/faults", json=fault)).status_code == 204


async def counted(client: httpx.AsyncClient) -> int:
    answer = await client.post("/count")
    assert answer.status_code == 200
    found: int = answer.json()["count"]
    return found


async def test_a_status_comes_as_often_as_was_asked_and_without_the_effect(client: httpx.AsyncClient) -> None:
    await switch(client, kind="status", status=429, retryAfterS=7, count=2)
    for _ in range(2):
        answer = await client.post("/count")
        assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (429, {"code": 429}, "7")
    assert await counted(client) == 1


async def test_only_what_is_named_goes_wrong(client: httpx.AsyncClient) -> None:
    await switch(client, kind="status", method="get")
    await switch(client, kind="status", path="^/other$")
    assert await counted(client) == 1
    assert len((await client.get("/_control/faults")).json()) == 2
    assert (await client.get("/count")).status_code == 500
    assert [each["path"] for each in (await client.get("/_control/faults")).json()] == ["^/other$"]
    assert (await client.delete("/_control/faults")).status_code == 204
    assert (await client.get("/_control/faults")).json() == []


@pytest.mark.parametrize(("when", "then"), [("before", 1), ("after", 2)])
async def test_a_connection_is_dropped_before_or_after_the_effect(
    client: httpx.AsyncClient, when: str, then: int
) -> None:
    await switch(client, kind="drop", after=when == "after")
    with pytest.raises(httpx.TransportError):
        await client.post("/count")
    assert await counted(client) == then


async def test_an_answer_may_be_late_or_never_come(client: httpx.AsyncClient) -> None:
    await switch(client, kind="slow", delayS=0.05)
    await switch(client, kind="never")
    started = asyncio.get_running_loop().time()
    assert await counted(client) == 1
    assert asyncio.get_running_loop().time() - started >= 0.05
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/count", timeout=0.1)


async def test_a_body_may_be_anything(client: httpx.AsyncClient) -> None:
    for kind in ("truncated", "garbage", "html", "huge"):
        await switch(client, kind=kind, bytes=300_000)
    truncated, garbage, html, huge = [await client.post("/count") for _ in range(4)]
    assert truncated.content == b'{"cou'
    assert garbage.content.startswith(b"\xff")
    assert html.headers["content-type"] == "text/html"
    assert len(huge.content) > 300_000
    assert len(huge.json()) == 1
    assert await counted(client) == 2


async def test_a_switch_that_cannot_be_is_refused(client: httpx.AsyncClient) -> None:
    for fault in ({"kind": "nothing"}, {"kind": "status", "path": "["}, {"kind": "status", "count": 0}, {"kind": 1}):
        assert (await client.post("/_control/faults", json=fault)).status_code == 422
