"""The texts of our messages: plain, short, and without anything that a thief of the mailbox could not see anyway."""

import unicodedata
from typing import Final, NamedTuple

from domain.mailing import Message, MessageKind

_ADVICE_MAX: Final = 2000
_FOOTER: Final = "\n\nComitia\nThis message was sent by a program; answers to it are not read.\n"
_IF_NOT_YOU: Final = (
    "\n\nIf that was not you, somebody else uses your account: open the app or our page and regain your account there, "
    "which ends every session. We never send you there from a message like this one."
)


class Text(NamedTuple):
    """A subject of one line, and a body."""

    subject: str
    body: str


# {code}, {link} and {advice} are the only fields. A code is never in a subject: subjects show on locked screens.
_TEMPLATES: Final[dict[MessageKind, Text]] = {
    MessageKind.PROVE_CONTACT: Text(
        "Confirm your address",
        "Somebody registers with this address. If it is you, enter this code:\n\n{code}\n\n"
        "If it is not, do nothing: without the code nothing happens.",
    ),
    MessageKind.LOGIN_CODE: Text(
        "Your code to log in",
        "Enter this code to log in:\n\n{code}\n\n"
        "Nobody of us will ever ask you for it. If you are not logging in, somebody else is trying to.",
    ),
    MessageKind.REMINDER: Text(
        "Your registration is not finished",
        "Your registration waits for you. Open the app or the page where you began, and go on from there.\n\n"
        "If you do nothing, it expires and what we know of you is deleted.",
    ),
    MessageKind.PROOFING_RETRY: Text(
        "Please show your document again",
        "Your identity could not be confirmed yet, and you can try again.\n\n"
        "Whoever examined it says:\n\n{advice}\n\nOpen the app or the page where you began, and go on from there.",
    ),
    MessageKind.PROOFING_REJECTED: Text(
        "Your identity could not be confirmed",
        "Your identity could not be confirmed.\n\nWhoever examined it says:\n\n{advice}\n\n"
        "If you think that this is wrong, you can appeal in the app or on the page where you began.",
    ),
    MessageKind.WELCOME: Text("Welcome", "Your identity is confirmed and your account is active. You can vote now."),
    MessageKind.RECOVERY: Text(
        "Regain your account",
        "Open this address to regain your account. It works once and not for long:\n\n{link}\n\n"
        "If you did not ask for it, do nothing: your account stays as it is.",
    ),
    MessageKind.RECOVERY_AT_PROVIDER: Text(
        "Regain your account",
        "You log in to your account with another provider, so only that provider can help you to regain it.\n\n"
        "If you did not ask for this, do nothing: your account stays as it is.",
    ),
    MessageKind.RECOVERED: Text(
        "Your account is yours again",
        "How you log in was replaced with the link that we had sent you, and every session has ended. Passkeys and "
        "logins at other providers that were added in the last 30 days are gone: add again those that are yours.\n\n"
        "If that was not you, somebody else reads your mail: regain your account once more, and change its password.",
    ),
    MessageKind.NEW_DEVICE: Text(
        "A new device",
        "Your account was used from a device that we have not seen before.\n\n"
        "If that was not you, end its session in the app and change how you log in.",
    ),
    MessageKind.DELETED: Text(
        "Your account is deleted",
        "Your account is deleted, and with it what we knew of you. Votes that you cast stay counted, "
        "and nothing leads from them to you.",
    ),
    MessageKind.PASSWORD_CHANGED: Text(
        "Your password was changed", f"The password of your account was set or replaced.{_IF_NOT_YOU}"
    ),
    MessageKind.PASSKEY_ADDED: Text(
        "A passkey was added", f"Your account can be logged in to with a passkey that is new.{_IF_NOT_YOU}"
    ),
    MessageKind.APP_CHANGED: Text(
        "An authenticator app was set up",
        "Somebody began to use an authenticator app with your account. "
        f"Codes of an app that you used before are not good any more.{_IF_NOT_YOU}",
    ),
    MessageKind.RECOVERY_CODES_CHANGED: Text(
        "New recovery codes",
        f"Your account has new recovery codes. Those that you wrote down before are not good any more.{_IF_NOT_YOU}",
    ),
    MessageKind.CREDENTIAL_REMOVED: Text(
        "A way to log in was removed",
        f"A password, a passkey or an authenticator app was removed from your account.{_IF_NOT_YOU}",
    ),
    MessageKind.PROVIDER_LINKED: Text(
        "Another login was linked",
        f"Your account can be logged in to with an account that somebody has at another provider.{_IF_NOT_YOU}",
    ),
    MessageKind.PROVIDER_UNLINKED: Text(
        "A linked login was removed",
        f"Your account can no more be logged in to with the account at another provider.{_IF_NOT_YOU}",
    ),
    MessageKind.UNMASKING: Text(
        "A member of staff asks to read a masked field",
        "One field of one case is asked for, or is shown for some minutes, or is not any more:\n\n{advice}\n\n"
        "Every step of it is in the audit log.",
    ),
}


def text_of(message: Message) -> Text:
    """Return the text of a message. Raises ValueError where a code or link that the text needs is missing."""
    subject, body = _TEMPLATES[message.kind]
    fields = {
        "code": _line(message.code),
        "link": _line(message.link),
        "advice": _quoted(message.advice) or "> (nothing more)",
    }
    if missing := [name for name, value in fields.items() if f"{{{name}}}" in body and not value]:
        raise ValueError(f"{message.kind} needs {', '.join(missing)}")
    return Text(subject, body.format(**fields) + _FOOTER)


def _line(text: str) -> str:
    """Return a code or link. Raises ValueError where it is more than one word."""
    if text and (text.split() != [text] or not text.isprintable()):
        raise ValueError("not one word")
    return text


def _quoted(advice: str) -> str:
    """Return text from outside as a quotation: bounded, without control and formatting characters."""
    kept = "".join(
        letter if letter == "\n" or unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else " "
        for letter in advice[:_ADVICE_MAX]
    )
    return "\n".join(f"> {line.strip()}" for line in kept.splitlines() if line.strip())
