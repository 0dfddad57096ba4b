"""Opens whatever sends the mail of a process."""

from domain.errors import DomainError, ErrorCode
from domain.mailing import Mailer, Message
from integrations.mail.smtp import SmtpMailer
from integrations.settings import Settings
from integrations.telemetry.waiting_metrics import WaitingMetrics


class NoMailServer:
    """Where no mail server is named, mail is away: what is to be sent waits for a process that has one."""

    async def send(self, message: Message) -> None:
        """Raise DomainError `mail_unavailable`."""
        raise DomainError(ErrorCode.MAIL_UNAVAILABLE, f"no mail server is set: {message.kind} waits")


def open_mailer(settings: Settings, waiting: WaitingMetrics) -> Mailer:
    """Return the mailer of a process, whose messages that wait for a connection are counted."""
    if settings.mail is None:
        return NoMailServer()
    mailer = SmtpMailer(settings.mail)
    waiting.watch_turns("mail", lambda: mailer.waiting)
    return mailer
