"""Takes people in: checks who asks, begins a registration, and shows and steers it for who has its secret."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from api.auth.humans import require_human
from domain import canonical
from domain.account_ends import DEVICES_FIELD
from domain.accounts import LookupHashes, LookupKind, PersonalData
from domain.challenges import BotChallenge, ChallengeAction
from domain.contracts.registration import RegisterVoterInput, RegistrationState, TriedCode, hashed_values
from domain.device_policy import (
    CURRENT_DEVICE_POLICY,
    DeviceCircumstances,
    DeviceDecision,
    DeviceUse,
    DeviceVerdict,
    judge_device,
)
from domain.device_sightings import SEEN_FOR
from domain.devices import DeviceEvent, DeviceIntelligence
from domain.errors import DomainError, ErrorCode
from domain.ids import REGISTRATION_ID, cell_in, new_registration_id, new_voter_id, proofing_case_id
from domain.proofing import ClientAccess, IdentityProofing
from domain.registration import ADVICE_FIELD, CONTACT, MAIL_FIELD, RegistrationPolicy, code_value
from domain.registrations import Registration, RegistrationStage
from integrations.devices.shown import ShownDevices
from integrations.identity.delivering import rules_for
from integrations.identity_cell import IdentityCell
from integrations.keys.registration_secrets import RegistrationSecrets

_OPENING_TAKES_S: Final = 2
_ADVISED: Final = frozenset({RegistrationStage.RETRY, RegistrationStage.REJECTED})
_PERSONS_TURN: Final = frozenset({RegistrationStage.PROOFING, RegistrationStage.RETRY})


@dataclass(frozen=True, slots=True)
class Application:
    """What somebody asks with; `nonce` is the one that the bot challenge and the device event were made for."""

    region: str
    mail: str = field(repr=False)
    challenge_token: str = field(repr=False)
    nonce: str = field(repr=False)
    device_event_id: str
    client_address: str = field(repr=False)
    cell: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A registration that has begun, and what its person goes on with: shown this once, kept nowhere."""

    registration: Registration
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Registrant:
    """Whose registration somebody says it is: its id, and the secret that shows it."""

    registration_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Vendors:
    """Who is asked about a person; one that is not there is away, and nobody gets past it meanwhile."""

    providers: Mapping[str, IdentityProofing]
    challenges: BotChallenge | None = None
    devices: DeviceIntelligence | None = None
    shown: ShownDevices | None = None  # the same, where results are sealed for us


class RegistrationDesk:
    """Begins registrations and answers for them; each is of the cell that its id names.

    An id alone opens nothing: staff and the provider of identity proofing know it too. Without the secret, or with a
    wrong one, the answer is that to an id of nothing. What the release before began goes on without one.
    """

    def __init__(
        self,
        cells: tuple[str, ...],
        cell_of: Callable[[str | None], IdentityCell],
        hashes: LookupHashes,
        vendors: Vendors,
        policy: RegistrationPolicy,
        *,
        secrets: RegistrationSecrets,
    ) -> None:
        """`cells` are all cells of the deployment; `cell_of` raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._cells = cells
        self._cell_of = cell_of
        self._hashes = hashes
        self._vendors = vendors
        self._policy = policy
        self._secrets = secrets

    async def begin(self, asked: Application) -> Begun:
        """Return a registration that is durably on its way. The same for an address with an account and without.

        Raises:
            DomainError: `malformed_request`, `region_not_eligible`, `challenge_failed`, `device_event_invalid`,
                `device_refused`; `challenges_unavailable`, `devices_unavailable`: without them nobody is let in;
                `wrong_cell`, `cell_unavailable`, `directory_unavailable`, `key_unavailable`, `workflows_unavailable`.
        """
        mail = canonical.mail(asked.mail)
        if not self._policy.admits_region(asked.region):
            raise DomainError(ErrorCode.REGION_NOT_ELIGIBLE, "people of this region cannot register here")
        cell = self._cell_of(asked.cell or self._cells[0])
        voter_id = new_voter_id(cell.name)
        human = require_human(self._vendors.challenges, asked.challenge_token, ChallengeAction.REGISTER, asked.nonce)
        _, event = await asyncio.gather(human, self._event(asked))
        await self._admit_device(cell, voter_id, event, asked)
        key_id = await self._secrets.newest_key()
        begun = Registration(
            new_registration_id(cell.name), voter_id, asked.region, datetime.now(UTC), RegistrationStage.CONTACT_PROOF
        )
        secret = await self._secrets.of(begun.registration_id, key_id)
        known = {MAIL_FIELD: mail, DEVICES_FIELD: event.device_id}  # to write to; to have erased in the end
        await cell.records.put(voter_id, PersonalData(known))
        expires_at = begun.created_at + CONTACT.expires_after
        await cell.registrations.begin(begun.registration_id, voter_id, asked.region, expires_at, key_id)
        await cell.processes.start(  # where it fails, a sweep begins what is stored
            RegisterVoterInput(
                registration_id=begun.registration_id,
                voter_id=voter_id,
                cell=cell.name,
                cells=self._cells,
                region=asked.region,
                rules=rules_for(self._policy, asked.region),
            )
        )
        return Begun(begun, secret)

    async def get(self, person: Registrant) -> tuple[Registration, str]:
        """Return a registration, and what the provider advises the person (or nothing).

        Raises:
            DomainError: `registration_not_found`, `wrong_cell`, `cell_unavailable`, `directory_unavailable`,
                `key_unavailable`.
        """
        cell, found = await self._find(person)
        if found.stage not in _ADVISED:
            return found, ""
        data = await cell.records.get(found.voter_id)
        return found, "" if data is None else data.fields.get(ADVICE_FIELD, "")

    async def prove_contact(self, person: Registrant, code: str) -> RegistrationState:
        """Hand in a code; it goes on as its keyed hash.

        Raises:
            DomainError: `code_wrong`, `registration_stage`, `workflows_unavailable`, and as `get`.
        """
        cell, _ = await self._find(person)
        hashes = await self._hashes.every(LookupKind.CODE, code_value(person.registration_id, code))
        tried = TriedCode(hashes=hashed_values(hashes))
        return await cell.processes.prove_contact(person.registration_id, tried)

    async def resend_code(self, person: Registrant) -> RegistrationState:
        """Have another code sent. Raises DomainError `rate_limited`, and as `prove_contact`."""
        cell, _ = await self._find(person)
        return await cell.processes.resend_code(person.registration_id)

    async def appeal(self, person: Registrant) -> RegistrationState:
        """Begin a new case. Raises DomainError as `prove_contact`."""
        cell, _ = await self._find(person)
        return await cell.processes.appeal(person.registration_id)

    async def cancel(self, person: Registrant) -> RegistrationState:
        """End a registration at the person's wish. Raises DomainError as `prove_contact`."""
        cell, _ = await self._find(person)
        return await cell.processes.cancel(person.registration_id)

    async def proofing_access(self, person: Registrant) -> tuple[str, ClientAccess]:
        """Return the provider's name, and what the person's client opens its pages with.

        Raises:
            DomainError: `registration_stage`; `proofing_unavailable`, `proofing_refused`, and as `get`.
        """
        _, found = await self._find(person)
        if found.stage not in _PERSONS_TURN:
            raise DomainError(ErrorCode.REGISTRATION_STAGE, "it is not the person's turn")
        provider = self._vendors.providers.get(found.provider)
        if provider is None or not found.reference:
            raise DomainError(
                ErrorCode.PROOFING_UNAVAILABLE, "the case is not open yet", retry_after_s=_OPENING_TAKES_S
            )
        return found.provider, await provider.client_access(proofing_case_id(found.registration_id, found.case_no))

    async def _find(self, person: Registrant) -> tuple[IdentityCell, Registration]:
        name = cell_in(REGISTRATION_ID, person.registration_id)
        if name is None:
            raise _not_found()
        cell = self._cell_of(name)
        found = await cell.registrations.get(person.registration_id)
        if found is None or not await self._is_of(found, person.secret):
            raise _not_found()
        return cell, found

    async def _is_of(self, found: Registration, secret: str) -> bool:
        if not found.secret_key_id:
            return True
        return await self._secrets.is_right(found.registration_id, found.secret_key_id, secret)

    async def _event(self, asked: Application) -> DeviceEvent:
        if self._vendors.devices is None:
            raise DomainError(ErrorCode.DEVICES_UNAVAILABLE, "nobody to ask")
        return await self._vendors.devices.event(asked.device_event_id)

    async def _admit_device(
        self, cell: IdentityCell, voter_id: str, event: DeviceEvent, asked: Application
    ) -> DeviceVerdict:
        """Note where an account is made, unless the device may not be used for it.

        One that raises the risk may: what follows is the proofing of an identity, and no further proof is stronger.
        """
        now = datetime.now(UTC)
        device = await self._hashes.every(LookupKind.DEVICE, event.device_id) if event.device_id else ()
        seen = await cell.sightings.correlate(device, voter_id, now - SEEN_FOR) if device else None
        circumstances = DeviceCircumstances(
            now=now,
            nonce=asked.nonce,
            used_before=not await cell.device_events.use(event.event_id, voter_id),
            client_address=asked.client_address,
            accounts_on_device=0 if seen is None else seen.accounts_on_device,
            devices_on_account=0 if seen is None else seen.devices_of_account,
        )
        verdict = judge_device(event, circumstances, DeviceUse.REGISTRATION, CURRENT_DEVICE_POLICY)
        if verdict.error is not None and verdict.decision is not DeviceDecision.RISKY:
            raise DomainError(verdict.error)
        if device:
            await cell.sightings.note(device, voter_id, event.at, event.flags)
        return verdict


def _not_found() -> DomainError:
    return DomainError(ErrorCode.REGISTRATION_NOT_FOUND, "no such registration, or not with this secret")
