"""The saga by which one person gets one account: claims in the cells that the hashes select, then the account."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows.policies import CLAIM, COMMIT

with workflow.unsafe.imports_passed_through():
    from activities.claims import ClaimActivities
    from activities.registration import RegistrationActivities
    from domain.accounts import ClaimState, claiming_cell
    from domain.contracts.registration import (
        ActivatedVoter,
        ActivateVoterInput,
        CaseFinding,
        ClaimDocumentInput,
        ClaimedDocument,
        HashedValue,
        VerifyIdentityInput,
    )
    from domain.ids import person_id_of
    from domain.registration import Reason


@dataclass(frozen=True, slots=True)
class Claimed:
    """The person that the voter is, or why there is no account."""

    person_id: str = ""
    refusal: tuple[str, ...] = ()


class Claiming:
    """Claims a document under every version of the hash key, oldest first, and lets go in reverse where it fails.

    Whoever claims the same document at once meets at the oldest version. A cell that is away is waited for.
    """

    def __init__(self, request: VerifyIdentityInput) -> None:
        self._request = request
        self._held: list[ClaimDocumentInput] = []

    async def claim(self, found: CaseFinding, still_approved: Callable[[], Awaitable[bool]]) -> Claimed:
        """Return the person once the account is active and names it for good.

        `still_approved` is asked when everything is claimed and nothing is made yet.
        """
        try:
            claimed = await self._claim(found.documents)
            if not claimed.refusal and not await still_approved():
                claimed = Claimed(refusal=(Reason.REVERSED.value,))
            if not claimed.refusal:
                claimed = await self._activate(claimed.person_id, found)
            if claimed.refusal:
                await self._release()
                return claimed
        except (ActivityError, asyncio.CancelledError):
            await self._release()
            raise
        for held in self._held:
            await workflow.execute_activity_method(ClaimActivities.settle_document, held, **CLAIM)
        return claimed

    async def _claim(self, documents: Sequence[HashedValue]) -> Claimed:
        person_id = person_id_of(workflow.uuid4())
        for document in documents:
            asked = ClaimDocumentInput(
                claim_cell=claiming_cell(document.digest, self._request.cells),
                document=document,
                voter_id=self._request.voter_id,
                person_id=person_id,
                home_cell=self._request.cell,
            )
            self._held.append(asked)  # before it is asked for: it may be granted without our hearing of it
            got: ClaimedDocument = await workflow.execute_activity_method(
                ClaimActivities.claim_document, asked, **CLAIM
            )
            if got.state is ClaimState.HELD:
                return Claimed(refusal=(Reason.ALREADY_REGISTERED.value,))
            if got.state is ClaimState.ELSEWHERE:
                return Claimed(refusal=(Reason.REGISTERED_ELSEWHERE.value, f"home_cell:{got.home_cell}"))
            if got.person_id != person_id and len(self._held) > 1:
                return Claimed(refusal=(Reason.CLAIM_CONTRADICTED.value,))
            person_id = got.person_id
        return Claimed(person_id=person_id)

    async def _activate(self, person_id: str, found: CaseFinding) -> Claimed:
        assert found.age_class is not None
        asked = ActivateVoterInput(
            voter_id=self._request.voter_id,
            person_id=person_id,
            assurance=found.assurance,
            age_class=found.age_class,
        )
        made: ActivatedVoter = await workflow.execute_activity_method(
            RegistrationActivities.activate_voter, asked, **COMMIT
        )
        return Claimed(person_id) if made.activated else Claimed(refusal=(Reason.ALREADY_REGISTERED.value,))

    async def _release(self) -> None:
        while self._held:
            await workflow.execute_activity_method(ClaimActivities.release_document, self._held[-1], **CLAIM)
            self._held.pop()
