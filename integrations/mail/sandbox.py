"""The sandbox of a mail server: takes every message over SMTP, keeps it, and shows it at `/mail/messages`."""

import asyncio
import email
import email.policy
import ssl
import time
from collections import deque
from contextlib import AsyncExitStack
from email.message import EmailMessage
from typing import Annotated, Any, Final, Literal, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from fastapi import APIRouter, FastAPI, Query
from pydantic import Field
from starlette.types import ASGIApp

from integrations.addresses import is_loopback
from integrations.listening import open_listener
from integrations.sandboxes.control import ControlModel
from integrations.settings import Settings
from integrations.vendor_settings import MailSettings

_MESSAGES_MAX: Final = 10_000
_MESSAGE_MAX_BYTES: Final = 1024 * 1024
_OK: Final = "250 OK"


class MailFault(ControlModel):
    """What happens at a stage of the next `count` messages: a reply, silence, or the end of the connection.

    With `after` the message is kept first.
    """

    stage: Literal["hello", "sender", "recipient", "data"] = "recipient"
    kind: Literal["reply", "never", "drop"] = "reply"
    reply: str = Field(default="451 4.3.0 Try again later", pattern=r"^[45][0-9]{2} [ -~]{1,200}$")
    count: int = Field(default=1, ge=1)
    after: bool = False


class KeptMessage(ControlModel):
    """A message as it was taken, its text decoded."""

    message_id: str
    sender: str
    to: str
    subject: str
    text: str
    headers: dict[str, str]
    encrypted: bool  # on its way
    user: str  # whom the client logged in as, or empty


class MailServer:
    """An SMTP server and what it took, the oldest of which is dropped beyond 10,000."""

    def __init__(self, user: tuple[str, str] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.messages: deque[KeptMessage] = deque(maxlen=_MESSAGES_MAX)
        self.faults: list[MailFault] = []
        self._user = user
        self._tls = tls
        self._arrived = asyncio.Condition()
        self._connections: set[SMTP] = set()

    async def listen(self, host: str, port: int, lifetime: AsyncExitStack) -> int:
        """Serve until `lifetime` ends; return the port. Raises OSError where it cannot be had."""
        listener = open_listener(host, port)
        server = await asyncio.get_running_loop().create_server(self._protocol, sock=listener)
        lifetime.push_async_callback(self._close, server)
        bound: int = listener.getsockname()[1]
        return bound

    async def wait_for(self, to: str, wait_s: float) -> list[KeptMessage]:
        """Return the messages to an address (to anybody, if empty), newest first, once there is one or time is over."""

        def found() -> list[KeptMessage]:
            return [message for message in reversed(self.messages) if to in {"", message.to}]

        try:
            async with asyncio.timeout(wait_s), self._arrived:
                await self._arrived.wait_for(found)
        except TimeoutError:
            pass
        return found()

    async def handle_EHLO(  # noqa: N802 - the library's name
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Answer a greeting."""
        session.host_name = hostname
        reply = await self._fail("hello", server, envelope)
        return [reply] if reply else responses

    async def handle_HELO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str) -> str:  # noqa: N802
        """Answer a greeting of old."""
        session.host_name = hostname
        return await self._fail("hello", server, envelope) or f"250 {server.hostname}"

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse a sender."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return await self._fail("sender", server, envelope, session) or _OK

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse a recipient."""
        refused = await self._fail("recipient", server, envelope, session)
        if refused:
            return refused
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return _OK

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a message."""
        refused = await self._fail("data", server, envelope, session)
        if refused:
            return refused
        await self._keep(session, envelope)
        return _OK

    async def _fail(self, stage: str, server: SMTP, envelope: Envelope, session: Session | None = None) -> str:
        fault = next((fault for fault in self.faults if fault.stage == stage), None)
        if fault is None:
            return ""
        index = self.faults.index(fault)
        self.faults[index : index + 1] = (
            [fault.model_copy(update={"count": fault.count - 1})] if fault.count > 1 else []
        )
        if fault.after and session is not None:
            await self._keep(session, envelope)
        if fault.kind == "reply":
            return fault.reply
        if fault.kind == "drop":
            _abort(server)
        await asyncio.Event().wait()  # until the connection ends, and this task with it
        return ""

    async def _keep(self, session: Session, envelope: Envelope) -> None:
        content = envelope.original_content or b""
        parsed = email.message_from_bytes(content, _class=EmailMessage, policy=email.policy.default)
        body = parsed.get_body(("plain",))
        user = session.auth_data.login.decode() if isinstance(session.auth_data, LoginPassword) else ""
        kept = [
            KeptMessage(
                message_id=str(parsed["Message-ID"]),
                sender=envelope.mail_from or "",
                to=to,
                subject=str(parsed["Subject"]),
                text=body.get_content().replace("\r\n", "\n") if body is not None else "",
                headers={name: str(value) for name, value in parsed.items()},
                encrypted=session.ssl is not None,
                user=user,
            )
            for to in envelope.rcpt_tos
        ]
        async with self._arrived:
            self.messages.extend(kept)
            self._arrived.notify_all()

    def _authenticate(self, _: SMTP, __: Session, ___: Envelope, ____: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == self._user
        return AuthResult(success=good, handled=False, auth_data=data if good else None)

    def _protocol(self) -> SMTP:
        connection = SMTP(
            self,
            data_size_limit=_MESSAGE_MAX_BYTES,
            enable_SMTPUTF8=True,
            hostname="mail.sandbox",
            ident="sandbox",
            tls_context=self._tls,
            require_starttls=self._tls is not None,
            authenticator=self._authenticate if self._user else None,
            auth_required=self._user is not None,
            auth_require_tls=self._tls is not None,
            loop=asyncio.get_running_loop(),
        )
        self._connections = {other for other in self._connections if other.transport is not None}
        self._connections.add(connection)
        return connection

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        for connection in self._connections:
            _abort(connection)
        deadline = time.monotonic() + 1.0
        while any(connection.transport is not None for connection in self._connections):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.005)


async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None:
    """Return the inbox, and listen for mail where the settings send it; None where they send it elsewhere."""
    if settings.mail is None or not is_loopback(settings.mail.host):
        return None
    server = MailServer(_user(settings.mail))
    await server.listen(settings.mail.host, settings.mail.port, lifetime)
    app = FastAPI(openapi_url=None)
    app.include_router(inbox_routes(server))
    return app


def inbox_routes(server: MailServer) -> APIRouter:
    """Return the routes of the inbox, and the control routes that make the server fail."""
    router = APIRouter()

    @router.get("/messages")
    async def messages(
        to: str = "", wait_s: Annotated[float, Query(alias="waitS", ge=0, le=60)] = 0
    ) -> list[KeptMessage]:
        return await server.wait_for(to, wait_s)

    @router.delete("/messages", status_code=204)
    async def empty() -> None:
        server.messages.clear()

    @router.post("/_control/faults", status_code=204)
    async def add_fault(fault: MailFault) -> None:
        server.faults.append(fault)

    @router.get("/_control/faults")
    async def left_faults() -> list[MailFault]:
        return server.faults

    @router.delete("/_control/faults", status_code=204)
    async def clear_faults() -> None:
        server.faults.clear()

    return router


def _abort(connection: SMTP) -> None:
    if connection.transport is not None:
        cast("asyncio.Transport", connection.transport).abort()


def _user(settings: MailSettings) -> tuple[str, str] | None:
    if not settings.username or settings.password is None:
        return None
    return settings.username, settings.password.get_secret_value()
