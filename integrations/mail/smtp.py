"""Sends messages through one mail server of ours, over TLS."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final

import structlog
from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from domain.errors import DomainError, ErrorCode
from domain.mailing import Message
from integrations.deadlines import within
from integrations.mail.composing import compose, recipient
from integrations.turns import Turns
from integrations.vendor_settings import MailSettings

_FAREWELL_S: Final = 1.0
_PERMANENT: Final = range(500, 600)
_MAILBOX_FULL: Final = 552  # RFC 5321, section 4.5.3.1.10: at RCPT it means 452
# RFC 3463: 5.3 is about the server, 5.5 about our commands, 5.7 about what we may do: none is about the mailbox
_ABOUT_US: Final = re.compile(r"5\.[357]\.\d{1,3}\b")

log = structlog.get_logger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class SmtpMailer:
    """Implements `Mailer`: one connection per message, and so many at once as the settings say."""

    def __init__(self, settings: MailSettings, *, now: Callable[[], datetime] = _now) -> None:
        self._settings = settings
        self._sender = Address(settings.sender_name, addr_spec=settings.sender)
        # Reads the system's certificates, which takes a moment: once
        self._tls = None if settings.security == "plain" else ssl.create_default_context(cafile=settings.ca)
        self._slots = Turns(settings.connections_max)
        self._now = now

    @property
    def waiting(self) -> int:
        """How many messages wait for a connection."""
        return self._slots.waiting

    async def send(self, message: Message) -> None:
        """Return once the server has taken the message, within the settings' time-out as a whole.

        A server that refuses us, rather than the mailbox, may take the message later: `mail_unavailable`.
        """
        to = recipient(message.to)
        composed = compose(message, to, self._sender, self._now())
        client = self._client()
        try:
            async with asyncio.timeout(within(self._settings.timeout_s)), self._slots:
                await client.connect()
                await client.send_message(composed, sender=self._settings.sender, recipients=[to.addr_spec])
        except (SMTPException, OSError, TimeoutError) as error:  # of which connection and TLS errors are OSErrors
            client.close()
            raise _failure(error) from None  # the cause quotes the address
        await self._leave(client)
        log.info("mail_sent", kind=message.kind, message_id=_id_of(composed))

    def _client(self) -> SMTP:
        settings = self._settings
        password = settings.password.get_secret_value() if settings.password else ""
        return SMTP(
            hostname=settings.host,
            port=settings.port,
            local_hostname=self._sender.domain,
            timeout=settings.timeout_s,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=self._tls,
            username=settings.username or None,
            password=password or None,
        )

    async def _leave(self, client: SMTP) -> None:
        """Say goodbye; the message is taken, whatever becomes of that."""
        with contextlib.suppress(SMTPException, OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await client.quit()
        client.close()


def _failure(error: Exception) -> DomainError:
    """Return what an attempt's end means, without the server's text: it quotes addresses."""
    if isinstance(error, SMTPNotSupported):
        return DomainError(ErrorCode.MAIL_REFUSED, "the server takes no such address")
    refusal: Exception = error.recipients[0] if isinstance(error, SMTPRecipientsRefused) else error
    if not isinstance(refusal, SMTPResponseException):
        return DomainError(ErrorCode.MAIL_UNAVAILABLE, type(refusal).__name__)
    log.warning("mail_refused", code=refusal.code, at=type(refusal).__name__)
    of_the_message = isinstance(error, SMTPRecipientsRefused | SMTPDataError)
    final = of_the_message and refusal.code in _PERMANENT and refusal.code != _MAILBOX_FULL
    if final and not _ABOUT_US.match(refusal.message):
        return DomainError(ErrorCode.MAIL_REFUSED, f"status {refusal.code}")
    return DomainError(ErrorCode.MAIL_UNAVAILABLE, f"status {refusal.code}")


def _id_of(composed: EmailMessage) -> str:
    return str(composed["Message-ID"])
