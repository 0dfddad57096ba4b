"""Makes the message that is sent, in which nothing from outside can become a header."""

import hashlib
import re
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from domain.errors import DomainError, ErrorCode
from domain.mailing import Message
from integrations.mail.templates import text_of

_LOCAL_MAX: Final = 64
_ADDRESS_MAX: Final = 254
_LOCAL: Final = re.compile(r"[^\s\x00-\x1f\x7f\"(),:;<>@\[\\\]]+")
_DOMAIN: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


def recipient(to: str) -> Address:
    """Return a mail address, its domain in ASCII (IDNA).

    Raises:
        DomainError: `mail_refused`: not one address, and nothing else.
    """
    local, _, domain = to.rpartition("@")
    try:
        domain = domain.encode("idna").decode("ascii")
        # An IPv6 address or a display name would need more care than a person's contact address is worth
        if not _LOCAL.fullmatch(local) or len(local.encode()) > _LOCAL_MAX or not _DOMAIN.fullmatch(domain):
            raise _refused()
        if len(local.encode()) + len(domain) >= _ADDRESS_MAX or not local.isprintable():
            raise _refused()
        return Address(username=local, domain=domain)
    except ValueError:
        raise _refused() from None


def compose(message: Message, to: Address, sender: Address, at: datetime) -> EmailMessage:
    """Return what is sent. The Message-ID follows from the message's key alone."""
    text = text_of(message)
    composed = EmailMessage(policy=SMTP)
    composed["Message-ID"] = message_id(message.key, sender.domain)
    composed["Date"] = format_datetime(at)
    composed["From"] = sender
    composed["To"] = to
    composed["Subject"] = text.subject
    composed["Auto-Submitted"] = "auto-generated"
    composed.set_content(text.body, cte="quoted-printable")
    return composed


def message_id(key: str, domain: str) -> str:
    """Return the Message-ID of a key, which says nothing of it."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{domain}>"


def _refused() -> DomainError:
    return DomainError(ErrorCode.MAIL_REFUSED, "not a mail address")
