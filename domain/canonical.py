"""One spelling for each address and document, so that its keyed hash is the same however somebody writes it.

What two people could both have stays apart: dots and tags in a mail address are part of it.
"""

import re
import unicodedata

from domain.errors import DomainError, ErrorCode
from domain.proofing import Document

MAIL_MAX = 254  # octets, RFC 5321 section 4.5.3.1 with RFC 3696 erratum 1690
_LOCAL_MAX = 64
_LOGIN_MAX = 512
_COUNTRY = re.compile(r"[A-Z]{3}")
_KIND = re.compile(r"[a-z0-9_]{1,64}")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")  # ITU-T E.164: at most 15 digits
_SEPARATORS = re.compile(r"[\s().\-/\u2010-\u2015]")  # RFC 3966 section 5.1.1, and what people write besides
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER_MAX = 64


def mail(address: str) -> str:
    """Return a mail address in lower case (Unicode NFKC), its domain as A-labels, without space around it.

    Raises:
        DomainError: `malformed_request`; this cannot be a mail address.
    """
    local, at, domain = _lower(address.strip()).rpartition("@")
    try:
        host = domain.rstrip(".").encode("idna").decode("ascii")
    except UnicodeError as error:
        raise _malformed("mail address") from error
    labels = host.split(".")
    whole = f"{local}@{host}"
    if (
        not at
        or not 1 <= len(local.encode()) <= _LOCAL_MAX
        or len(labels) < 2  # noqa: PLR2004 - a name and a top-level domain
        or not all(_LABEL.fullmatch(label) for label in labels)
        or len(whole.encode()) > MAIL_MAX
        or not _is_visible(local)
        or set(local) & set('@<>,;:"()[]\\')
    ):
        raise _malformed("mail address")
    return whole


def phone(number: str) -> str:
    """Return a telephone number in the international form of E.164: `+` and 7 to 15 digits.

    Raises:
        DomainError: `malformed_request`; no such number, or one without its country.
    """
    digits = "".join(_ascii_digit(character) for character in unicodedata.normalize("NFKC", number))
    bare = _SEPARATORS.sub("", digits)
    found = "+" + bare[2:] if bare.startswith("00") else bare
    if _PHONE.fullmatch(found) is None:
        raise _malformed("telephone number")
    return found


def login(issuer_and_subject: str) -> str:
    """Return what an identity provider calls somebody as it is: OpenID Connect Core section 5.7 compares exactly.

    Raises:
        DomainError: `malformed_request`; empty, too long or not printable.
    """
    if not 1 <= len(issuer_and_subject.encode()) <= _LOGIN_MAX or not issuer_and_subject.isprintable():
        raise _malformed("login")
    return issuer_and_subject


def provider_login(issuer: str, subject: str) -> str:
    """Return the login of who an identity provider (`iss`, which has no space in it) calls `subject`.

    Raises:
        DomainError: `malformed_request`; one of them is missing, or cannot be such.
    """
    if not issuer or not subject or " " in issuer:
        raise _malformed("login")
    return login(f"{issuer} {subject}")


def provider_person(issuer: str, reference: str) -> str:
    """Return what somebody is found by whom an identity provider vouches for as a person, in each of their accounts.

    No login is the same: those begin with an issuer, which is an address.

    Raises:
        DomainError: `malformed_request`; one of them is missing, or cannot be such.
    """
    return login(f"person {provider_login(issuer, reference)}")


def device(device_id: str) -> str:
    """Return a vendor's device id as it is. Raises DomainError `malformed_request` where it can be none."""
    return login(device_id)


def document(found: Document) -> tuple[str, str, str]:
    """Return country, kind and number of a document as the machine-readable zone has them: capitals and digits alone.

    Spaces, hyphens, dots and fillers come and go between a document and its readers (ICAO 9303 part 3 section 4.6),
    letters and digits do not. Letters and digits of other scripts are kept as they are.

    Raises:
        DomainError: `malformed_request`; no country, kind or number.
    """
    country, kind = found.country.strip().upper(), found.kind.strip().lower().replace("-", "_").replace(" ", "_")
    plain = unicodedata.normalize("NFKC", found.number).upper()
    number = "".join(_ascii_digit(character) for character in plain if character.isalnum())
    if _COUNTRY.fullmatch(country) is None or _KIND.fullmatch(kind) is None or not 1 <= len(number) <= _NUMBER_MAX:
        raise _malformed("document")
    return country, kind, number


def _lower(text: str) -> str:
    # Not casefold: it makes one of addresses that are two ("ss" of a sharp s).
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())


def _is_visible(text: str) -> bool:
    return text.isprintable() and not any(character.isspace() for character in text)


def _ascii_digit(character: str) -> str:
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)


def _malformed(what: str) -> DomainError:
    return DomainError(ErrorCode.MALFORMED_REQUEST, f"not a {what}")
