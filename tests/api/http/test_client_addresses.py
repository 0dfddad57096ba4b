import pytest

from api.http.client_addresses import ClientAddresses
from api.http.lean import LeanRequest, LeanRoute
from tests.api.http.wire import BODY, get, post, run, serving

OURS = ClientAddresses(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # a stranger says what it likes
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("10.0.0.1", ["1.1.1.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, \xff, 10.2.2.2"], "10.2.2.2"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_client_address(peer: str, forwarded: list[str], client: str):
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    assert OURS.of(peer, headers) == client
    assert ClientAddresses().of(peer, headers) == peer


def test_networks_are_checked_at_start():
    with pytest.raises(ValueError, match="10"):
        ClientAddresses(["10.0.0.1/8"])


@pytest.mark.parametrize("trusted", [("127.0.0.0/8",), ()])
def test_both_ways_see_the_same_client(trusted: tuple[str, ...]):
    async def scenario() -> None:
        seen: list[str] = []

        def look(request: LeanRequest) -> None:
            seen.append(request.client)
            request.respond(200, b"")

        async with serving([LeanRoute("POST", "/look", look)], trusted=trusted) as served:
            wire = await served.connect()
            await wire.ask(post("/look", BODY, "x-forwarded-for: 198.51.100.1"))
            wire.send(get("/client")[:-2] + b"x-forwarded-for: 198.51.100.1\r\n\r\n")
            expected = "198.51.100.1" if trusted else "127.0.0.1"
            assert (await wire.answer()).body == expected.encode()
            assert seen == [expected]

    run(scenario())
