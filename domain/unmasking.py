"""Break-glass: one masked field of one case, shown to who asked once a second person has agreed, for some minutes."""

from collections.abc import Collection
from datetime import timedelta
from enum import StrEnum
from typing import Final

from domain.ids import derived_id
from domain.tokens import Role

APPROVAL_WITHIN: Final = timedelta(minutes=15)
READABLE_FOR: Final = timedelta(minutes=10)
READS_MAX: Final = 20  # each is an entry; whoever reads more often copies it

_ASKERS: Final = frozenset({Role.SUPPORT, Role.COMPLIANCE})
_APPROVERS: Final = frozenset({Role.COMPLIANCE, Role.ADMIN})
_PERSON: Final = "staff:"  # a program has nobody who answers for it


class UnmaskingReason(StrEnum):
    """Why a field has to be read; a code, since it is kept for good."""

    VOTER_UNREACHABLE = "voter_unreachable"
    WRONG_CONTACT = "wrong_contact"
    FRAUD_REVIEW = "fraud_review"
    LEGAL_REQUEST = "legal_request"


class UnmaskingStage(StrEnum):
    """Where an unmasking stands."""

    WAITING = "waiting"  # for a second person
    APPROVED = "approved"  # whoever asked may read
    REFUSED = "refused"
    EXPIRED = "expired"  # nobody agreed in time
    ENDED = "ended"  # its time to read is over


class UnmaskingStep(StrEnum):
    """What happened in an unmasking: the outcome of its audit entry."""

    ASKED = "asked"
    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"
    READ = "read"
    ENDED = "ended"


def asking_role(actor: str, roles: Collection[Role]) -> Role | None:
    """Return the role by which somebody may ask, or None; programs may not."""
    return _role(actor, roles, _ASKERS)


def approving_role(actor: str, roles: Collection[Role]) -> Role | None:
    """Return the role by which somebody may approve or refuse what another asked for, or None."""
    return _role(actor, roles, _APPROVERS)


def _role(actor: str, roles: Collection[Role], permitted: frozenset[Role]) -> Role | None:
    return min(permitted.intersection(roles), default=None) if actor.startswith(_PERSON) else None


def unmasking_id_of(cell: str, actor: str, key: str, *asked: str) -> str:
    """Return the id of what somebody asks for under a key of his own: asked again, it is the same."""
    return derived_id(f"b_{cell}", "\n".join((actor, key, *asked)))
