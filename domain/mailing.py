"""Messages to a person's contact address."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class MessageKind(StrEnum):
    """What a message is for; its text is the mailer's business."""

    PROVE_CONTACT = "prove_contact"  # code
    LOGIN_CODE = "login_code"  # code
    REMINDER = "reminder"
    PROOFING_RETRY = "proofing_retry"
    PROOFING_REJECTED = "proofing_rejected"
    WELCOME = "welcome"
    RECOVERY = "recovery"  # link
    RECOVERY_AT_PROVIDER = "recovery_at_provider"  # the account logs in elsewhere
    RECOVERED = "recovered"
    NEW_DEVICE = "new_device"
    DELETED = "deleted"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a kind
    PASSKEY_ADDED = "passkey_added"
    APP_CHANGED = "app_changed"
    RECOVERY_CODES_CHANGED = "recovery_codes_changed"
    CREDENTIAL_REMOVED = "credential_removed"
    PROVIDER_LINKED = "provider_linked"
    PROVIDER_UNLINKED = "provider_unlinked"
    UNMASKING = "unmasking"  # to whoever watches over data; advice


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `key` makes its Message-ID, so that a repeat can be told from a second message.

    `code` and `link` are secrets of the person. `advice` is text from outside and is shown as text.
    """

    key: str
    to: str = field(repr=False)
    kind: MessageKind
    code: str = field(default="", repr=False)
    link: str = field(default="", repr=False)
    advice: str = ""


class Mailer(Protocol):
    """Sends messages."""

    async def send(self, message: Message) -> None:
        """Return once the next server has taken responsibility for the message.

        Safe to repeat: at worst the person reads it twice, under one Message-ID.

        Raises:
            DomainError: `mail_unavailable` (retryable) or `mail_refused` (final: no such mailbox).
        """
        ...
