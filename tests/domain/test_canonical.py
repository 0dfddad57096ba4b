"""One spelling of addresses and documents, and what stays apart."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import canonical
from domain.errors import DomainError, ErrorCode
from domain.proofing import Document


def wide(text: str) -> str:
    """Return the full-width forms of a text, as East Asian keyboards write them."""
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


@pytest.mark.parametrize(
    ("written", "canonical_form"),
    [
        ("Anna.Schmidt@Example.ORG", "anna.schmidt@example.org"),
        ("  anna@example.org\n", "anna@example.org"),
        (wide("anna@example.org"), "anna@example.org"),
        ("anna@münchen.example", "anna@xn--mnchen-3ya.example"),
        ("anna@XN--MNCHEN-3YA.example", "anna@xn--mnchen-3ya.example"),
        ("anna@example.org.", "anna@example.org"),
        ("e\u0301va@example.org", "\u00e9va@example.org"),
        ("anna+votes@example.org", "anna+votes@example.org"),
    ],
)
def test_one_mail_address_has_one_spelling(written: str, canonical_form: str) -> None:
    assert canonical.mail(written) == canonical_form


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("anna.schmidt@example.org", "annaschmidt@example.org"),
        ("anna+votes@example.org", "anna@example.org"),
        ("anna@example.org", "anna@example.com"),
        ("strasse@example.org", "straße@example.org"),
    ],
)
def test_addresses_that_two_people_can_have_stay_apart(one: str, another: str) -> None:
    assert canonical.mail(one) != canonical.mail(another)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "@",
        "anna",
        "anna@",
        "@example.org",
        "anna@localhost",
        "anna@@example.org",
        "an na@example.org",
        "anna@exa mple.org",
        "anna@-example.org",
        "anna@example..org",
        "anna@[127.0.0.1]",
        "Anna <anna@example.org>",
        "anna@example.org, eva@example.org",
        "anna\r\nBcc: eva@example.org",
        "anna\x00@example.org",
        "a" * 65 + "@example.org",
        "anna@" + "a" * 64 + ".org",
        "anna@" + "a." * 130 + "org",
    ],
)
def test_what_is_no_mail_address_is_refused_without_repeating_it(written: str) -> None:
    with pytest.raises(DomainError) as refused:
        canonical.mail(written)
    assert refused.value.code is ErrorCode.MALFORMED_REQUEST
    assert refused.value.detail == "not a mail address"


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_canonical_address_is_its_own_spelling_or_none_at_all(local: str, domain: str) -> None:
    found = None
    with suppress(DomainError):
        found = canonical.mail(f"{local}@{domain}.org")
    if found is not None:
        assert canonical.mail(found) == found


@pytest.mark.parametrize(
    "written",
    [
        "+49 30 1234567",
        "0049-30-123 45 67",
        "+49 (30) 1234567",
        "+49.30.1234567",
        wide("+49301234567"),
        "+٤٩301234567",
    ],
)
def test_one_telephone_number_has_one_spelling(written: str) -> None:
    assert canonical.phone(written) == "+49301234567"


@pytest.mark.parametrize(
    "written", ["", "030 1234567", "+0301234567", "+1", "+1234567890123456", "+49 30 CALL", "++493"]
)
def test_what_is_no_international_number_is_refused(written: str) -> None:
    with pytest.raises(DomainError) as refused:
        canonical.phone(written)
    assert refused.value.code is ErrorCode.MALFORMED_REQUEST


@pytest.mark.parametrize(
    "number",
    ["C01X00T47", "c01x00t47", " C01 X00 T47 ", "C01-X00-T47", "C01X00T47<<<", wide("C01X00T47"), "C01.X00.T47"],
)
def test_one_document_has_one_spelling(number: str) -> None:
    assert canonical.document(Document("deu", "ID_CARD", number)) == ("DEU", "id_card", "C01X00T47")


def test_documents_that_differ_stay_apart() -> None:
    documents = [
        Document("DEU", "passport", "C01X00T47"),
        Document("DEU", "id_card", "C01X00T47"),
        Document("FRA", "passport", "C01X00T47"),
        Document("DEU", "passport", "CO1XOOT47"),  # the letter O
        Document("DEU", "passport", "0C01X00T47"),
    ]
    assert len({canonical.document(found) for found in documents}) == len(documents)


@pytest.mark.parametrize(
    ("country", "kind", "number"),
    [("DE", "passport", "1"), ("DEU", "", "1"), ("DEU", "passport", " -. "), ("DEU", "passport", "1" * 65)],
)
def test_what_is_no_document_is_refused_without_repeating_it(country: str, kind: str, number: str) -> None:
    with pytest.raises(DomainError) as refused:
        canonical.document(Document(country, kind, number))
    assert (refused.value.code, refused.value.detail) == (ErrorCode.MALFORMED_REQUEST, "not a document")


def test_what_a_provider_calls_somebody_is_compared_exactly() -> None:
    logins = [("https://one.example", "Anna"), ("https://one.example", "anna"), ("https://two.example", "Anna")]
    assert len({canonical.provider_login(*login) for login in logins}) == 3


@pytest.mark.parametrize(("issuer", "subject"), [("", "a"), ("i", ""), ("i ", "a"), ("i", "a\nb"), ("i", "a" * 512)])
def test_what_no_provider_calls_anybody_is_refused(issuer: str, subject: str) -> None:
    with pytest.raises(DomainError) as refused:
        canonical.provider_login(issuer, subject)
    assert refused.value.code is ErrorCode.MALFORMED_REQUEST
