"""Recovery and deletion of accounts as their histories keep them: ids, keyed hashes, counts; no address, no secret."""

from datetime import datetime
from enum import StrEnum

from domain.contracts.base import Contract
from domain.contracts.registration import HashedValue


class RecoverAccountInput(Contract):
    """Somebody asks for a link to the address whose hashes these are; whether it is anybody's is yet to be seen."""

    request_id: str
    cell: str
    mail: tuple[HashedValue, ...]


class RecoveryEnd(StrEnum):
    """What came of it; nobody who asked is told."""

    NOBODY = "nobody"  # no account of this cell that may log in
    AT_PROVIDER = "at_provider"  # told to ask the identity provider
    NOT_SENT = "not_sent"  # the address takes no mail, or something was away for too long
    EXPIRED = "expired"
    RECOVERED = "recovered"
    CANCELLED = "cancelled"  # by support: the link is good no more


class RecoveredAccount(Contract):
    """How a request ended."""

    request_id: str
    end: RecoveryEnd


class FoundAccount(Contract):
    """The account of an address, or an empty id; `at_provider` where it logs in at an identity provider alone."""

    voter_id: str = ""
    at_provider: bool = False


class SendLinkInput(Contract):
    """Asks for the link of a request to be sent; the same request is the same link.

    `again` counts the times that support had it sent once more: each is a mail of its own.
    """

    request_id: str
    cell: str
    voter_id: str
    asked_at: datetime
    again: int = 0


class RecoveryRequest(Contract):
    """Names a request."""

    request_id: str


class LinkUse(Contract):
    """Whether a link was used."""

    used: bool


class DeleteAccountInput(Contract):
    """An account to delete; `cells` are all cells, in any of which its documents may be claimed."""

    deletion_id: str
    voter_id: str
    cell: str
    cells: tuple[str, ...]


class DeletionStep(Contract):
    """A deletion, and whose account it is of."""

    deletion_id: str
    voter_id: str
    devices_erased: int = 0  # of the last step


class EndedRegistration(Contract):
    """Whether nothing of a voter's registration can go on any more."""

    over: bool


class ErasableCase(Contract):
    """A case at a provider, as it is known there and here."""

    registration_id: str
    case_no: int
    provider: str
    reference: str


class ErasableCases(Contract):
    """The cases of a voter that no provider has confirmed the erasure of."""

    cases: tuple[ErasableCase, ...] = ()


class ErasedDevices(Contract):
    """How many devices the vendor has forgotten; those that other accounts use are kept."""

    erased: int
    kept: int = 0


class ReleaseClaimsInput(Contract):
    """Lets go of every claim that a voter holds in one cell; the person stays named."""

    claim_cell: str
    voter_id: str


class DeletedAccount(Contract):
    """What was deleted, and how much of each there was."""

    deletion_id: str
    completed_at: datetime
    sessions_ended: int = 0
    cases_erased: int = 0
    devices_erased: int = 0
    credentials_removed: int = 0
