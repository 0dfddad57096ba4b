"""What tokens say: the claims of access and voting tokens, and who may issue and take them.

Three kinds that never open each other's doors, told apart by signing key, `typ`, audience and scope: a voter's
access token (admission and the account), a staff member's (internal routes), and a voting token (casting one vote).
"""

from enum import StrEnum

import msgspec

LIFETIME_S = 15 * 60  # of every token
LEEWAY_S = 30  # how far clocks may differ
TOKEN_BYTES_MAX = 4096


class TokenKind(msgspec.Struct, frozen=True):
    """What must be true of every token of one kind, checked before anything it says is believed."""

    typ: str
    issuer: str
    audience: str
    scope: str


ACCESS_ISSUER = "comitia/auth"
VOTING_ISSUER = "comitia/eligibility"

VOTER_ACCESS = TokenKind(typ="at+jwt", issuer=ACCESS_ISSUER, audience="voters", scope="voter")
STAFF_ACCESS = TokenKind(typ="staff+jwt", issuer=ACCESS_ISSUER, audience="staff", scope="staff")
VOTING = TokenKind(typ="voting+jwt", issuer=VOTING_ISSUER, audience="votes", scope="vote")


class Role(StrEnum):
    """What a member of staff, or a machine client, may do."""

    ADMIN = "admin"
    SUPPORT = "support"
    COMPLIANCE = "compliance"
    AUDITOR = "auditor"


class Assurance(StrEnum):
    """How well the person behind a voter is known (eIDAS levels)."""

    NONE = "none"
    LOW = "low"
    SUBSTANTIAL = "substantial"
    HIGH = "high"


class RiskBand(StrEnum):
    """What the login's risk assessment said of the session."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Confirmation(msgspec.Struct, frozen=True):
    """`cnf` (RFC 7800): the RFC 7638 thumbprint of the key that the bearer must prove to hold."""

    jkt: str


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every token carries; times in seconds since 1970."""

    iss: str
    aud: str
    scope: str
    iat: int
    exp: int
    nbf: int = 0
    cnf: Confirmation | None = None

    @property
    def jkt(self) -> str | None:
        """The thumbprint of the key that the token is bound to, or None where it is not bound."""
        return self.cnf.jkt if self.cnf is not None else None


class VoterClaims(Claims, frozen=True, kw_only=True, omit_defaults=True):
    """A voter's access token.

    `device` is a keyed hash of the device id (32 bytes in base64url), `network` the client's network (a /24 or /48) at
    login; empty where the login knew none.
    """

    sub: str
    jti: str
    sid: str
    cell: str
    region: str
    assurance: Assurance = Assurance.NONE
    risk: RiskBand = RiskBand.LOW
    device: str = ""
    network: str = ""


class StaffClaims(Claims, frozen=True, kw_only=True, omit_defaults=True):
    """A staff member's access token."""

    sub: str
    jti: str
    sid: str
    roles: tuple[Role, ...] = ()


class VotingWire(Claims, frozen=True, kw_only=True, omit_defaults=True):
    """A voting token as it travels: base64url without padding where `VotingClaims` has bytes."""

    survey: str
    nullifier: str
    cell: str
    region: str
    evidence: str
    device: str = ""


class VotingClaims(msgspec.Struct, frozen=True, gc=False):
    """A verified voting token: the permission to vote once in one survey. It names nobody.

    `nullifier` is 32 bytes, `evidence` 64, `device` a pseudonym that holds for this survey only (or empty), `jkt` the
    thumbprint of the key whose proof must come with the vote (or None).
    """

    survey_id: str
    nullifier: bytes
    cell: str
    region: str
    evidence: bytes
    device: str
    jkt: str | None
    issued_at: int
    expires_at: int
