"""Opens whatever sends the mail of a process."""

from domain.errors import DomainError, ErrorCode
from domain.mailing import Mailer, Message
from integrations.mail.smtp import SmtpMailer
from integrations.settings import Settings


class NoMailServer:
    """Where no mail server is named, mail is away: what is to be sent waits for a process that has one."""

    async def send(self, message: Message) -> None:
        """Raise DomainError `mail_unavailable`."""
        raise DomainError(ErrorCode.MAIL_UNAVAILABLE, f"no mail server is set: {message.kind} waits")


def open_mailer(settings: Settings) -> Mailer:
    """Return the mailer of a process."""
    return NoMailServer() if settings.mail is None else SmtpMailer(settings.mail)
