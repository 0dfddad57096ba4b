"""Registration and identity proofing as their histories keep them: ids, codes, stages and keyed hashes, no person."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from domain.accounts import ClaimState, KeyedHash
from domain.contracts.base import Contract
from domain.mailing import MessageKind
from domain.proofing import ProofingState
from domain.registrations import RegistrationStage
from domain.tokens import Assurance


class HashedValue(Contract):
    """32 bytes of HMAC-SHA-256 under a version of a key, and that version's id."""

    key_id: str
    digest: bytes


def hashed_values(hashes: Sequence[KeyedHash]) -> tuple[HashedValue, ...]:
    """Return keyed hashes as a history keeps them."""
    return tuple(HashedValue(key_id=each.key_id, digest=each.digest) for each in hashes)


class RegistrationRules(Contract):
    """The policy that a registration began under, as far as its region concerns it."""

    version: int
    minimum_age: int
    provider: str


class RegisterVoterInput(Contract):
    """A registration that has begun; the address to prove lies with the personal data of `voter_id`.

    `cells` are all cells of the deployment, among which documents are claimed.
    """

    registration_id: str
    voter_id: str
    cell: str
    cells: tuple[str, ...]
    region: str
    rules: RegistrationRules


class RegisteredVoter(Contract):
    """How a registration ended, under which version of the policy."""

    registration_id: str
    stage: RegistrationStage
    reasons: tuple[str, ...] = ()
    staff_reasons: tuple[str, ...] = ()
    case_no: int = 0
    policy_version: int = 0


class RegistrationState(Contract):
    """Where a registration stands, as updates and queries answer."""

    stage: RegistrationStage
    case_no: int = 0


class TriedCode(Contract):
    """A code that a person typed, hashed under every live version of the key."""

    hashes: tuple[HashedValue, ...]


class SendCodeInput(Contract):
    """Asks for the code of this number (from 1) to be sent; the same number is the same code."""

    registration_id: str
    voter_id: str
    number: int


class SendMessageInput(Contract):
    """A message to a voter's address; `key` tells a repeat from a second message."""

    voter_id: str
    kind: MessageKind
    key: str


class NoteStageInput(Contract):
    """What became of a registration, for its API; see `StageNote`."""

    registration_id: str
    revision: int
    stage: RegistrationStage
    reasons: tuple[str, ...] = ()
    staff_reasons: tuple[str, ...] = ()
    case_no: int = 0
    provider: str = ""
    reference: str = ""
    expires_at: datetime | None = None
    policy_version: int = 0


class CaseNumber(Contract):
    """A case of a registration, from 1."""

    registration_id: str
    case_no: int


class ErasedCase(Contract):
    """Whether the provider has confirmed that it has erased a case."""

    confirmed: bool


class OpenAccountInput(Contract):
    """A voter whose address is proved."""

    voter_id: str
    region: str


class OpenedAccount(Contract):
    """Whether there is an account now; False where another open one has the address."""

    opened: bool


class ActivateVoterInput(Contract):
    """The person that a voter is, how well known, and of which age class (0, 16 or 18)."""

    voter_id: str
    person_id: str
    assurance: Assurance
    age_class: int


class ActivatedVoter(Contract):
    """Whether the voter is active now; False where the person has another open account."""

    activated: bool


class EndAccountInput(Contract):
    """Suspends or closes an account; `reason` is a code."""

    voter_id: str
    reason: str


class OpenCaseInput(Contract):
    """A case to open at a provider under our id."""

    provider: str
    case_id: str


class OpenedCase(Contract):
    """The provider's reference of a case."""

    reference: str


class CaseReference(Contract):
    """A case at a provider, and the voter whose it is."""

    provider: str
    reference: str
    voter_id: str


class CaseFinding(Contract):
    """What a provider says of a case, the document as keyed hashes (oldest key first), the birth date as age class.

    `documents` is empty and `age_class` None where the provider named none.
    """

    state: ProofingState
    attempt: int = 1
    reasons: tuple[str, ...] = ()
    risk_labels: tuple[str, ...] = ()
    same_face: bool = False
    documents: tuple[HashedValue, ...] = ()
    age_class: int | None = None
    assurance: Assurance = Assurance.NONE


class ClaimDocumentInput(Contract):
    """A claim to make, release or settle in one cell."""

    claim_cell: str
    document: HashedValue
    voter_id: str
    person_id: str = ""
    home_cell: str = ""


class ClaimedDocument(Contract):
    """What came of asking for a claim."""

    state: ClaimState
    person_id: str
    home_cell: str


class IdentityDecision(StrEnum):
    """What identity proofing came to."""

    APPROVED = "approved"
    REJECTED = "rejected"  # by the provider
    REFUSED = "refused"  # by a rule of ours
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class VerifyIdentityInput(Contract):
    """A case to see through. `revision` is the last one noted of the registration.

    `replaces` is the provider's reference of an earlier case, which an appeal takes the place of. A `recheck` looks
    once more at the case `replaces` that was approved, since the provider may have taken its word back. `local_first`
    says that its steps are tried in the worker at once; executions of releases before that queued each.
    """

    registration_id: str
    voter_id: str
    cell: str
    cells: tuple[str, ...]
    rules: RegistrationRules
    case_no: int
    revision: int = 0
    replaces: str = ""
    recheck: bool = False
    local_first: bool = False


class VerifiedIdentity(Contract):
    """A decision with its reasons, values of `Reason` and labels of the provider; what staff alone may see is apart."""

    decision: IdentityDecision
    reasons: tuple[str, ...] = ()
    staff_reasons: tuple[str, ...] = ()
    reference: str = ""
    person_id: str = ""
    revision: int = 0
