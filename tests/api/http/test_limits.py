"""Who is counted, in which order, and what a caller hears of it; real routes, limits of one process alone."""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pytest
from fastapi import Depends
from prometheus_client import CollectorRegistry

from api.http.application import create_application
from api.http.lean import LeanRequest, LeanRoute
from api.http.limits import Limits, Places, limited
from domain.access import MachineClient, new_api_key
from domain.errors import DomainError, ErrorCode
from domain.limits import (
    SURVEY_ADDRESS,
    SURVEY_NETWORK,
    VOTE_ADDRESS,
    VOTE_DEVICE,
    VOTE_NETWORK,
    VOTE_TOKEN,
    place_of,
)
from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import make_telemetry
from tests.api.http.wire import Answer, post, run, serving
from tests.limits_world import lonely_limits

HERE, THERE = "192.0.2.1", "192.0.2.2"


@dataclass
class Asked:
    """A request as limits see it."""

    client: str = HERE
    limit_lines: bytes = b""


class Voting:
    """The vote route's limits."""

    def __init__(self, **changed: tuple[int, int]) -> None:
        self.registry = CollectorRegistry()
        self.limits = lonely_limits(self.registry, **changed)
        self._route = self.limits.route(
            "eu", own=VOTE_TOKEN, device=VOTE_DEVICE, address=VOTE_ADDRESS, network=VOTE_NETWORK
        )

    def ask(self, token: bytes = b"", device: str = "", client: str = HERE) -> str:
        """Return the policy that refuses, or nothing."""
        asked = Asked(client)
        with suppress(DomainError):
            self._route.take(asked, token or secrets.token_bytes(32), device)
            assert b'"vote-token"' in asked.limit_lines
            return ""
        return asked.limit_lines.decode().split('"')[1]

    def refusals(self, policy: str, subject: str) -> float:
        return self.registry.get_sample_value("limit_refusals_total", {"policy": policy, "subject": subject}) or 0


def test_a_token_used_up_refuses_its_holder_and_nobody_else() -> None:
    voting = Voting(vote_token=(3, 600))
    mine = secrets.token_bytes(32)
    assert [voting.ask(mine) for _ in range(5)] == ["", "", "", "vote-token", "vote-token"]
    assert voting.ask() == ""
    assert voting.refusals("vote-token", "token") == 2


def test_a_token_sent_from_many_addresses_has_one_limit() -> None:
    voting = Voting(vote_token=(3, 600))
    stolen = secrets.token_bytes(32)
    answers = [voting.ask(stolen, client=f"2001:db8:{n:x}::1") for n in range(100)]
    assert answers.count("") == 3


def test_a_farm_behind_one_device_key_has_one_limit() -> None:
    voting = Voting(vote_device=(3, 600))
    assert [voting.ask(device="thumbprint", client=f"198.51.100.{n}") for n in range(5)][3:] == ["vote-device"] * 2
    assert voting.ask(device="another") == ""
    assert voting.ask() == ""  # a token that is bound to no key


def test_a_token_that_hammers_costs_its_neighbours_nothing() -> None:
    voting = Voting(vote_token=(3, 600), vote_address=(10, 600))
    mine = secrets.token_bytes(32)
    for _ in range(1000):
        voting.ask(mine)
    assert [voting.ask() for _ in range(8)] == [""] * 7 + ["vote-address"]


@pytest.mark.parametrize(
    ("addresses", "refused"),
    [
        ([HERE] * 4, "vote-address"),
        ([HERE, f"::ffff:{HERE}", HERE, HERE], "vote-address"),
        ([f"2001:db8:1:2::{n}" for n in range(4)], "vote-address"),  # one customer's, however many
        ([f"2001:db8:1:{n}::1" for n in range(6)], "vote-network"),  # one /48
        ([f"192.0.2.{n}" for n in range(6)], "vote-network"),
    ],
)
def test_addresses_that_one_customer_has_are_one(addresses: list[str], refused: str) -> None:
    voting = Voting(vote_address=(3, 600), vote_network=(5, 600))
    answers = [voting.ask(client=address) for address in addresses]
    assert answers == [""] * (len(addresses) - 1) + [refused]


def test_the_cell_of_a_voter_counts_and_no_other() -> None:
    limits = lonely_limits(vote_token=(1, 600))
    routes = [limits.route(cell, own=VOTE_TOKEN, address=VOTE_ADDRESS, network=VOTE_NETWORK) for cell in ("eu", "us")]
    for route in routes:
        route.take(Asked(), b"same")
    for route in routes:
        with pytest.raises(DomainError):
            route.take(Asked(), b"same")


def test_a_machine_client_counts_in_the_cell_that_knows_it() -> None:
    limits, client = lonely_limits(), MachineClient("c_1", frozenset(), requests_per_minute=1)
    keys = [new_api_key(cell) for cell in ("eu", "us")]
    for key in keys:
        limits.take_client(Asked(), key, client)
    for key in keys:
        with pytest.raises(DomainError):
            limits.take_client(Asked(), key, client)


def test_places_of_many_addresses_do_not_grow_a_process() -> None:
    places = Places()
    for number in range(60_000):
        places.of(f"10.0.{number >> 8}.{number & 255}")
    assert len(places._known) <= 50_000
    assert places.of(HERE) == place_of(HERE)


def test_machine_clients_with_one_limit_are_counted_apart() -> None:
    limits, key = lonely_limits(), new_api_key("eu")
    clients = [MachineClient(name, frozenset(), requests_per_minute=1) for name in ("c_1", "c_2")]
    for client in clients:
        limits.take_client(Asked(), key, client)
    for client in clients:
        with pytest.raises(DomainError):
            limits.take_client(Asked(), key, client)


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[[Limits], httpx.AsyncClient]]:
    made: list[httpx.AsyncClient] = []

    def make(limits: Limits, address: str = HERE) -> httpx.AsyncClient:
        app = create_application("test", make_telemetry(Settings(environment=Environment.TEST), "test"))
        counted = limited(limits.route(address=SURVEY_ADDRESS, network=SURVEY_NETWORK))

        @app.get("/read", dependencies=[Depends(counted)])
        async def read(*, fail: bool = False) -> dict[str, str]:
            if fail:
                raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
            return {}

        transport = httpx.ASGITransport(app, client=(address, 1))
        made.append(httpx.AsyncClient(transport=transport, base_url="http://test"))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


async def test_every_answer_of_a_limited_route_says_what_is_left(
    client_of: Callable[[Limits], httpx.AsyncClient],
) -> None:
    client, began = client_of(lonely_limits(survey_address=(4, 40))), time.monotonic()
    first = await client.get("/read")
    assert first.headers["ratelimit-policy"] == '"survey-address";q=4;w=40'
    assert first.headers["ratelimit"] == '"survey-address";r=3;t=10'
    missing = await client.get("/read", params={"fail": True})
    assert missing.status_code == 404
    assert missing.headers["ratelimit"].startswith('"survey-address";r=2;t=')
    wrong = await client.get("/read", params={"fail": "perhaps"})
    assert wrong.status_code == 400
    assert wrong.headers["ratelimit"].startswith('"survey-address";r=1;t=')
    await client.get("/read")
    refused = await client.get("/read")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["ratelimit-policy"] == '"survey-address";q=4;w=40'
    wait = int(refused.headers["retry-after"])
    assert began + 10 - time.monotonic() <= wait <= 10  # when it may be asked again, and not sooner
    assert refused.headers["ratelimit"] == f'"survey-address";r=0;t={wait}'
    assert "ratelimit" not in (await client.get("/livez")).headers


@pytest.mark.parametrize("trusted", [(), ("127.0.0.0/8",)])
def test_an_address_made_up_by_the_caller_is_no_way_around_a_limit(trusted: tuple[str, ...]) -> None:
    """Only what our own balancer wrote last is believed; without one, nothing is."""

    async def scenario() -> None:
        route = lonely_limits(survey_address=(3, 600)).route(address=SURVEY_ADDRESS, network=SURVEY_NETWORK)

        def look(request: LeanRequest) -> None:
            route.take(request)
            request.respond(200, b"{}")

        async with serving([LeanRoute("POST", "/look", look)], trusted=trusted) as served:
            wire = await served.connect()

            async def ask(made_up: str, balancer_saw: str = HERE) -> Answer:
                forwarded = f"x-forwarded-for: {made_up}, {balancer_saw}" if trusted else f"x-forwarded-for: {made_up}"
                return await wire.ask(post("/look", b"{}", forwarded))

            answers = [await ask(f"203.0.113.{n}") for n in range(5)]
            assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
            assert answers[0].headers["ratelimit-policy"] == '"survey-address";q=3;w=600'
            assert answers[3].headers["ratelimit"].startswith('"survey-address";r=0;t=')
            if trusted:
                assert (await ask("203.0.113.1", THERE)).status == 200

    run(scenario())
