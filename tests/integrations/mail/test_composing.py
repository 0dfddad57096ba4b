import email
import email.policy
from datetime import UTC, datetime
from email.headerregistry import Address

import pytest

from domain.errors import DomainError
from domain.mailing import Message, MessageKind
from integrations.mail.composing import compose, message_id, recipient
from integrations.mail.templates import text_of

NOW = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
SENDER = Address("Comitia", addr_spec="no-reply@vote.example")
FULL = {"code": "12345678", "link": "https://vote.example/r#abc", "advice": "The photo is blurred."}


def message(kind: MessageKind = MessageKind.PROVE_CONTACT, to: str = "ada@example.org", **fields: str) -> Message:
    return Message("registration/r_eu_x/1", to, kind, **{**FULL, **fields})


@pytest.mark.parametrize("kind", MessageKind)
def test_every_kind_has_a_text_with_its_secret_in_the_body_alone(kind: MessageKind) -> None:
    subject, body = text_of(message(kind))
    assert subject
    assert "{" not in subject + body
    assert FULL["code"] not in subject
    expected = {
        MessageKind.PROVE_CONTACT: FULL["code"],
        MessageKind.LOGIN_CODE: FULL["code"],
        MessageKind.RECOVERY: FULL["link"],
        MessageKind.PROOFING_RETRY: FULL["advice"],
        MessageKind.PROOFING_REJECTED: FULL["advice"],
        MessageKind.UNMASKING: FULL["advice"],
    }
    for secret in FULL.values():
        assert (secret in body) is (expected.get(kind) == secret)


@pytest.mark.parametrize(
    ("kind", "field"),
    [(MessageKind.PROVE_CONTACT, "code"), (MessageKind.LOGIN_CODE, "code"), (MessageKind.RECOVERY, "link")],
)
@pytest.mark.parametrize("value", ["", "two words", "a\r\nBcc: b@example.org", "a\u2028b", "\x00"])
def test_a_code_or_link_is_one_word(kind: MessageKind, field: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"needs|one word"):
        text_of(message(kind, **{field: value}))


def test_advice_is_quoted_as_text() -> None:
    advice = "Line one\r\n.\r\n{code} <b>bold</b>\x00\u202e\u200bhidden\n\n\n" + "x" * 5000
    body = text_of(message(MessageKind.PROOFING_RETRY, advice=advice)).body
    quoted = [line for line in body.splitlines() if line.startswith(">")]
    assert quoted[:3] == ["> Line one", "> .", "> {code} <b>bold</b>   hidden"]
    assert len("".join(quoted)) < 2100
    assert "\u202e" not in body
    assert "(nothing more)" in text_of(message(MessageKind.PROOFING_RETRY, advice="")).body


def test_a_message_can_be_read_and_says_what_it_is() -> None:
    composed = compose(message(), recipient("ada@example.org"), SENDER, NOW)
    parsed = email.message_from_bytes(composed.as_bytes(), policy=email.policy.default)
    assert parsed["From"] == "Comitia <no-reply@vote.example>"
    assert (parsed["To"], parsed["Auto-Submitted"]) == ("ada@example.org", "auto-generated")
    assert parsed["Message-ID"] == message_id("registration/r_eu_x/1", "vote.example")
    assert parsed["Date"].datetime == NOW
    assert parsed.get_content_type() == "text/plain"
    assert FULL["code"] in parsed.get_content()


def test_a_message_id_follows_from_the_key_and_does_not_show_it() -> None:
    assert message_id("a", "vote.example") == message_id("a", "vote.example") != message_id("b", "vote.example")
    assert "r_eu_x" not in message_id("registration/r_eu_x/1", "vote.example")


@pytest.mark.parametrize(
    ("to", "spec"),
    [
        ("ada@example.org", "ada@example.org"),
        ("a.d+a_1'x@sub.example.org", "a.d+a_1'x@sub.example.org"),
        ("ada@b\u00fccher.example", "ada@xn--bcher-kva.example"),
        ("\u00e4da@example.org", "\u00e4da@example.org"),
    ],
)
def test_addresses_are_taken(to: str, spec: str) -> None:
    assert recipient(to).addr_spec == spec


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@example.org\r\nBcc: eve@example.org",
        "ada\n@example.org",
        "ada@example.org, eve@example.org",
        "ada@example.org;eve@example.org",
        "Ada <ada@example.org>",
        "<ada@example.org>",
        '"ada eve"@example.org',
        "ada@eve@example.org",
        "ada@exa mple.org",
        "ada@[127.0.0.1]",
        "ada@-example.org",
        "ada@example..org",
        "ada\x00@example.org",
        "ada\u202e@example.org",
        "ada\u2028@example.org",
        "a" * 65 + "@example.org",
        "ada@" + "a" * 64 + ".org",
        "ada@" + "a." * 150 + "org",
    ],
)
def test_what_is_not_one_address_is_refused_and_not_quoted(to: str) -> None:
    with pytest.raises(DomainError) as raised:
        recipient(to)
    assert str(raised.value) == "mail_refused: not a mail address"
