"""The mailer against the sandbox over SMTP, and a mail server of the environment's choice.

`COMITIA_CONTRACT_MAIL` (the settings as JSON) and `COMITIA_CONTRACT_MAIL_TO` make that server a second subject.
"""

import asyncio
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError
from structlog.testing import capture_logs

from comitia.stack.ports import HOST, free_port
from domain.errors import DomainError, ErrorCode
from domain.mailing import Message, MessageKind
from integrations.deadlines import until
from integrations.mail.composing import message_id
from integrations.mail.sandbox import MailServer
from integrations.mail.smtp import SmtpMailer
from integrations.settings import Environment, Settings
from integrations.vendor_settings import MailSettings
from tests.certificates import certificate
from tests.integrations.vendor_sandboxes import Vendor, open_vendor

REAL = os.environ.get("COMITIA_CONTRACT_MAIL", "")
SUBJECTS = ["sandbox", *(["server"] if REAL else [])]
PORT = free_port(())
BOUND_S = 4.0  # far less than a mail server could take, on a busy machine


def settings_of(**changes: Any) -> MailSettings:
    plain = {"host": HOST, "port": PORT, "security": "plain", "sender": "no-reply@vote.example", "timeout_s": 10.0}
    return MailSettings(**{**plain, **changes})


def a_message(to: str = "", **fields: Any) -> Message:
    key = secrets.token_hex(8)
    return Message(key, to or f"{key}@example.org", **{"kind": MessageKind.PROVE_CONTACT, "code": "12345678", **fields})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor() -> AsyncIterator[Vendor]:
    async with open_vendor("mail", mail=settings_of()) as opened:
        yield opened


async def inbox(vendor: Vendor, to: str, wait_s: float = 0) -> list[dict[str, Any]]:
    answer = await vendor.client.get(f"{vendor.url}/messages", params={"to": to, "waitS": str(wait_s)})
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_a_message_is_taken(vendor: Vendor, subject: str) -> None:
    if subject == "server":
        mailer = SmtpMailer(MailSettings.model_validate_json(REAL))
        await mailer.send(a_message(os.environ["COMITIA_CONTRACT_MAIL_TO"]))
        return
    message = a_message()
    with capture_logs() as logs:
        await SmtpMailer(settings_of()).send(message)
    (kept,) = await inbox(vendor, message.to, 5)
    assert (kept["sender"], kept["to"]) == ("no-reply@vote.example", message.to)
    assert kept["messageId"] == message_id(message.key, "vote.example")
    assert "\n12345678\n" in kept["text"]
    assert [entry["event"] for entry in logs] == ["mail_sent"]
    assert message.to not in str(logs)


async def test_a_repeat_is_the_same_message(vendor: Vendor) -> None:
    message, mailer = a_message(), SmtpMailer(settings_of())
    await asyncio.gather(*(mailer.send(message) for _ in range(20)))
    kept = await inbox(vendor, message.to)
    assert (len(kept), len({one["messageId"] for one in kept})) == (20, 1)


async def test_addresses_and_texts_beyond_ascii_arrive(vendor: Vendor) -> None:
    to = f"\u00e4da{secrets.token_hex(4)}@b\u00fccher.example"
    message = a_message(
        to, kind=MessageKind.PROOFING_RETRY, advice="Das Foto ist unscharf \u2014 bitte \u00f6fter.\n.\nEnde"
    )
    await SmtpMailer(settings_of()).send(message)
    (kept,) = await inbox(vendor, to.replace("b\u00fccher", "xn--bcher-kva"))
    assert "> Das Foto ist unscharf \u2014 bitte \u00f6fter.\n> .\n> Ende" in kept["text"]


async def test_nothing_from_outside_becomes_a_header(vendor: Vendor) -> None:
    message = a_message(kind=MessageKind.PROOFING_REJECTED, advice="no\r\nBcc: eve@example.org\r\n\r\n.\r\nQUIT\r\n")
    await SmtpMailer(settings_of(sender_name="Comitia \u00bb, <x@example.org>")).send(message)
    (kept,) = await inbox(vendor, message.to)
    assert {name.lower() for name in kept["headers"]} == {
        "message-id", "date", "from", "to", "subject", "auto-submitted", "content-type", "content-transfer-encoding",
        "mime-version",
    }  # fmt: skip
    assert kept["headers"]["To"] == message.to
    assert not await inbox(vendor, "eve@example.org")
    with pytest.raises(DomainError, match="mail_refused"):
        await SmtpMailer(settings_of()).send(a_message("ada@example.org\r\nRCPT TO:<eve@example.org>"))


@pytest.mark.parametrize(
    ("stage", "reply", "code"),
    [
        ("hello", "421 4.3.2 Shutting down", ErrorCode.MAIL_UNAVAILABLE),
        ("hello", "554 5.7.1 Go away", ErrorCode.MAIL_UNAVAILABLE),
        ("sender", "451 4.3.0 Later", ErrorCode.MAIL_UNAVAILABLE),
        ("sender", "550 5.1.8 Sender unknown", ErrorCode.MAIL_UNAVAILABLE),
        ("recipient", "450 4.2.1 Greylisted", ErrorCode.MAIL_UNAVAILABLE),
        ("recipient", "421 4.7.0 Too many", ErrorCode.MAIL_UNAVAILABLE),
        ("recipient", "550 5.1.1 No such user", ErrorCode.MAIL_REFUSED),
        ("recipient", "550 No such user here", ErrorCode.MAIL_REFUSED),
        ("recipient", "553 5.1.3 Bad address", ErrorCode.MAIL_REFUSED),
        ("recipient", "552 5.2.2 Mailbox full", ErrorCode.MAIL_UNAVAILABLE),
        ("recipient", "550 5.7.1 Relaying denied", ErrorCode.MAIL_UNAVAILABLE),
        ("data", "452 4.3.1 Full", ErrorCode.MAIL_UNAVAILABLE),
        ("data", "554 5.6.0 Not this", ErrorCode.MAIL_REFUSED),
        ("data", "554 5.7.1 Listed", ErrorCode.MAIL_UNAVAILABLE),
    ],
)
async def test_a_refusal_means_the_mailbox_or_waits(vendor: Vendor, stage: str, reply: str, code: ErrorCode) -> None:
    await vendor.fail("reply", stage=stage, reply=reply, count=2 if stage == "hello" else 1)
    message = a_message()
    with capture_logs() as logs, pytest.raises(DomainError) as raised:
        await SmtpMailer(settings_of()).send(message)
    await vendor.heal()
    assert raised.value.code is code
    assert raised.value.spec.retryable is (code is ErrorCode.MAIL_UNAVAILABLE)
    assert message.to not in f"{raised.value}{logs}"
    assert raised.value.__cause__ is None
    assert not await inbox(vendor, message.to)


@pytest.mark.parametrize("stage", ["hello", "sender", "recipient", "data"])
@pytest.mark.parametrize("kind", ["never", "drop"])
async def test_silence_and_lost_connections_are_tried_again(vendor: Vendor, stage: str, kind: str) -> None:
    await vendor.fail(kind, stage=stage)
    message, began = a_message(), time.monotonic()
    with pytest.raises(DomainError, match="mail_unavailable"):
        await SmtpMailer(settings_of(timeout_s=0.3 if kind == "never" else 10.0)).send(message)
    assert time.monotonic() - began < BOUND_S
    await vendor.heal()
    await SmtpMailer(settings_of()).send(message)
    assert len(await inbox(vendor, message.to)) == 1


async def test_a_message_whose_acceptance_was_lost_comes_twice_under_one_id(vendor: Vendor) -> None:
    await vendor.fail("drop", stage="data", after=True)
    message, mailer = a_message(), SmtpMailer(settings_of())
    with pytest.raises(DomainError, match="mail_unavailable"):
        await mailer.send(message)
    await mailer.send(message)
    kept = await inbox(vendor, message.to)
    assert (len(kept), len({one["messageId"] for one in kept})) == (2, 1)


async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(BOUND_S)


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(40):
        writer.write(b"220-still here\r\n")
        await asyncio.sleep(0.1)


async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(1000):
        writer.write(b"220-" + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def html(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\n\r\n<h1>Bad Request</h1>\r\n")


async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(secrets.token_bytes(200) + b"\r\n")


async def goodbye(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"554 5.3.2 not today\r\n")


@pytest.mark.parametrize("behaviour", [never, drip, flood, html, garbage, goodbye], ids=lambda one: one.__name__)
@pytest.mark.parametrize("security", ["plain", "tls", "starttls"])
async def test_what_is_no_mail_server_is_unavailable_in_time(
    behaviour: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], security: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    port, began = server.sockets[0].getsockname()[1], time.monotonic()
    async with server:
        with pytest.raises(DomainError, match="mail_unavailable"):
            await SmtpMailer(settings_of(port=port, security=security, timeout_s=0.3)).send(a_message())
        assert time.monotonic() - began < BOUND_S


async def test_nobody_home_is_unavailable_and_nobody_waits_longer_than_the_caller(vendor: Vendor) -> None:
    with pytest.raises(DomainError, match="mail_unavailable"):
        await SmtpMailer(settings_of(port=free_port((PORT,)))).send(a_message())
    await vendor.fail("never", stage="hello")
    began = time.monotonic()
    with until(began + 0.2), pytest.raises(DomainError, match=r"mail_unavailable|deadline_exceeded"):
        await SmtpMailer(settings_of()).send(a_message())
    assert time.monotonic() - began < BOUND_S
    await vendor.heal()


async def test_a_server_is_asked_by_few_at_once() -> None:
    asking: list[int] = [0]
    waiting: list[int] = []
    two = asyncio.Event()

    async def busy(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asking.append(asking[-1] + 1)
        if asking[-1] == 2:
            waiting.append(mailer.waiting)
            two.set()
        await two.wait()
        asking.append(asking[-1] - 1)
        writer.write(b"421 4.3.2 busy\r\n")
        writer.close()

    server = await asyncio.start_server(busy, HOST, 0)
    async with server, asyncio.timeout(60):
        mailer = SmtpMailer(settings_of(port=server.sockets[0].getsockname()[1], timeout_s=50.0, connections_max=2))
        outcomes = await asyncio.gather(*(mailer.send(a_message()) for _ in range(30)), return_exceptions=True)
    assert all(isinstance(one, DomainError) and one.code is ErrorCode.MAIL_UNAVAILABLE for one in outcomes)
    assert (max(asking), len(asking)) == (2, 61)
    assert (waiting[0], mailer.waiting) == (28, 0)


@asynccontextmanager
async def server_with(
    user: tuple[str, str] | None, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[MailServer, int]]:
    async with AsyncExitStack() as lifetime:
        server = MailServer(user, tls)
        yield server, await server.listen(HOST, 0, lifetime)


async def test_starttls_is_demanded_with_a_certificate_that_is_known_and_a_login(tmp_path: Path) -> None:
    context, ca = certificate(tmp_path, "mail.example")
    _, stranger = certificate(tmp_path, "other.example")
    login = {"security": "starttls", "username": "comitia", "password": "s3cret"}
    async with server_with(("comitia", "s3cret"), context) as (server, port):
        await SmtpMailer(settings_of(port=port, ca=ca, **login)).send(a_message())
        assert [(kept.encrypted, kept.user) for kept in server.messages] == [(True, "comitia")]
        for changes in ({"ca": stranger}, {"ca": None}, {"ca": ca, "password": "wrong"}, {"ca": ca, "username": ""}):
            with pytest.raises(DomainError, match="mail_unavailable"):
                await SmtpMailer(settings_of(port=port, **{**login, **changes})).send(a_message())
        assert len(server.messages) == 1
    async with server_with(None, None) as (server, port):
        with pytest.raises(DomainError, match="mail_unavailable"):
            await SmtpMailer(settings_of(port=port, ca=ca, security="starttls")).send(a_message())
        assert not server.messages


def test_production_refuses_readable_mail_between_hosts() -> None:
    def production(**changes: Any) -> Settings:
        return Settings(environment=Environment.PRODUCTION, mail=settings_of(**changes))

    with pytest.raises(ValidationError, match=r"plaintext mail to mail\.example"):
        production(host="mail.example")
    assert production(host="mail.example", security="starttls").mail
    assert production(security="plain").mail  # a relay on the same machine


@pytest.mark.parametrize(
    "changes",
    [{"sender": "a@b\r\nBcc: c@d"}, {"sender": "nobody"}, {"sender_name": "a\nb"}, {"port": 0}, {"security": "no"}],
)
def test_settings_that_would_make_no_message_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_of(**changes)


async def test_the_inbox_can_be_waited_for_and_emptied(vendor: Vendor) -> None:
    message = a_message()
    waiting = asyncio.create_task(inbox(vendor, message.to, 10))
    await SmtpMailer(settings_of()).send(message)
    assert len(await waiting) == 1
    assert (await vendor.client.delete(f"{vendor.url}/messages")).status_code == 204
    assert await inbox(vendor, message.to) == []
