import pytest

from api.http.client_addresses import ClientAddresses
from api.http.lean import LeanRequest, LeanRoute
from integrations.telemetry.request_trace import parse_traceparent
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
def test_client_address(peer: str, forwarded: list[str], client: str) -> None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    assert OURS.of(peer, headers) == client
    assert ClientAddresses().of(peer, headers) == peer


PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("client", "flags"),
    [("203.0.113.9", b"00"), ("not an address", b"00"), ("10.0.0.1", b"01"), ("127.0.0.1", b"01"), ("::1", b"01")],
)
def test_who_may_ask_for_a_trace(client: str, flags: bytes) -> None:
    headers = [(b"host", b"x"), (b"traceparent", PARENT), (b"accept", b"*/*"), (b"traceparent", PARENT)]
    believed = OURS.believed(client, headers)
    assert [value for name, value in believed if name == b"traceparent"] == [PARENT[:-2] + flags] * 2
    assert [pair for pair in believed if pair[0] != b"traceparent"] == [headers[0], headers[2]]
    assert len(headers) == 4
    assert headers[1] == (b"traceparent", PARENT)  # the connection's own list is left as it is


@pytest.mark.parametrize(
    "sent",
    [
        PARENT,
        b"01" + PARENT[2:] + b"-00",
        b"cc" + PARENT[2:] + b"-what comes later-00",
        PARENT[:-2] + b"ff",
        b"",
        b"01",
    ],
)
def test_no_version_of_a_strangers_flag_is_followed(sent: bytes) -> None:
    for name, value in OURS.believed("203.0.113.9", [(b"traceparent", sent)] * 2_000):
        parsed = parse_traceparent(value)
        assert name == b"traceparent"
        assert parsed is None or not parsed[2]


@pytest.mark.parametrize(("forwarded", "flags"), [("203.0.113.9", "00"), ("10.1.2.3", "01")])
def test_a_strangers_flag_is_not_followed_whichever_way_it_comes(forwarded: str, flags: str) -> None:
    async def scenario() -> None:
        seen: list[bytes | None] = []

        def look(request: LeanRequest) -> None:
            seen.append(request.get(b"traceparent"))
            request.respond(200, b"")

        lines = (f"x-forwarded-for: {forwarded}", f"traceparent: {PARENT.decode()}")
        async with serving([LeanRoute("POST", "/look", look)], trusted=("127.0.0.0/8", "10.0.0.0/8")) as served:
            wire = await served.connect()
            await wire.ask(post("/look", BODY, *lines))
            assert seen == [PARENT[:-2] + flags.encode()]
            wire.send(get("/client")[:-2] + "\r\n".join([*lines, "\r\n"]).encode())
            answered = (await wire.answer()).headers["traceparent"].split("-")
            assert (answered[1], answered[3]) == (PARENT.decode().split("-")[1], flags)

    run(scenario())


def test_networks_are_checked_at_start() -> None:
    with pytest.raises(ValueError, match="10"):
        ClientAddresses(["10.0.0.1/8"])


@pytest.mark.parametrize("trusted", [("127.0.0.0/8",), ()])
def test_both_ways_see_the_same_client(trusted: tuple[str, ...]) -> None:
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
