"""Recovers accounts: a link goes to whoever reads the mail of an address, and whoever has the link uses it once.

Asking does the same for every address, with an account and without: the look-up is made by a process in each cell.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from api.auth.cells import AuthCells
from api.auth.humans import require_human
from api.auth.new_passwords import NewPasswords
from api.auth.sessions import SessionDesk
from domain import canonical
from domain.accounts import KeyedHash, LookupHashes, LookupKind
from domain.challenges import BotChallenge, ChallengeAction
from domain.contracts.accounts import RecoverAccountInput
from domain.contracts.registration import hashed_values
from domain.device_policy import CURRENT_DEVICE_POLICY, DeviceCircumstances, DeviceDecision, DeviceUse, judge_device
from domain.devices import DeviceIntelligence
from domain.errors import DomainError, ErrorCode
from domain.ids import new_recovery_id
from domain.recovery import DOUBTED_FOR, cell_of_recovery_token
from integrations.identity_cell import IdentityCell
from integrations.login.passkeys import JsonObject, Passkeys


@dataclass(frozen=True, slots=True)
class RecoveryAsked:
    """What somebody asks with; `nonce` is the one that the bot challenge and the device event were made for."""

    mail: str = field(repr=False)
    challenge_token: str = field(repr=False)
    nonce: str = field(repr=False)
    device_event_id: str
    client_address: str = field(repr=False)


class RecoveryDesk:
    """Sends links and takes them."""

    def __init__(
        self,
        cells: tuple[str, ...],
        auth_cells: AuthCells,
        cell_of: Callable[[str | None], IdentityCell],
        *,
        hashes: LookupHashes,
        challenges: BotChallenge | None,
        devices: DeviceIntelligence | None,
        sessions: SessionDesk,
        passwords: NewPasswords,
    ) -> None:
        """`cells` are all cells; `cell_of` raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._cells = cells
        self._auth_cells = auth_cells
        self._cell_of = cell_of
        self._hashes = hashes
        self._challenges = challenges
        self._devices = devices
        self._sessions = sessions
        self._passwords = passwords

    async def ask(self, asked: RecoveryAsked) -> None:
        """Have a link sent to an address, if it has an account. A cell that is away sends none; ask again later.

        Raises:
            DomainError: `malformed_request`, `challenge_failed`, `device_event_invalid`, `device_refused`;
                `challenges_unavailable`, `devices_unavailable`: without them nobody is let in; `key_unavailable`;
                `cell_unavailable`, `workflows_unavailable` where no cell can be asked.
        """
        mail = canonical.mail(asked.mail)
        human = require_human(self._challenges, asked.challenge_token, ChallengeAction.RECOVER, asked.nonce)
        await asyncio.gather(human, self._admit_device(asked))
        hashes = await self._hashes.every(LookupKind.MAIL, mail)
        begun = await asyncio.gather(*(self._ask_in(name, hashes) for name in self._cells))
        if all(failure is not None for failure in begun):
            raise next(failure for failure in begun if failure is not None)

    async def begin_passkey(self, token: str) -> JsonObject:
        """Return what the browser makes a passkey from.

        Raises:
            DomainError: `recovery_link_invalid`; `factor_not_found`: passkeys are not taken here.
        """
        name, voter_id = await self._good(token)
        return await self._passkeys(name).begin_registration(voter_id, "voter", doubted_for=DOUBTED_FOR)

    async def finish(self, token: str, password: str, passkey: JsonObject | None) -> None:
        """Use a link for a new password or a passkey; every session ends, late additions go, an app stays.

        Raises:
            DomainError: `recovery_link_invalid`, for every reason the same; `password_not_accepted`,
                `passkey_not_accepted`, `factor_not_found`: the link is still good; `breaches_unavailable`,
                `cell_unavailable`, `directory_unavailable`, `key_unavailable`.
        """
        name, voter_id = await self._good(token)
        hashed, made = None, None
        if passkey is None:
            hashed = await self._passwords.hash(password)
        else:
            made = await self._passkeys(name).checked_registration(voter_id, passkey, doubted_for=DOUBTED_FOR)
            if made is None:
                raise DomainError(ErrorCode.PASSKEY_NOT_ACCEPTED)
        cell = self._cell_of(name)
        used = await cell.recoveries.finish(token, hashed, made)
        if used is None:
            raise DomainError(ErrorCode.RECOVERY_LINK_INVALID)
        await self._sessions.tell(name, used.ended)
        await cell.account_processes.link_used(used.request_id)

    async def _good(self, token: str) -> tuple[str, str]:
        """Return the cell and the voter of a good link."""
        name = cell_of_recovery_token(token)
        if name is None or name not in self._cells:
            raise DomainError(ErrorCode.RECOVERY_LINK_INVALID)
        voter_id = await self._cell_of(name).recoveries.voter_of(token)
        if not voter_id:
            raise DomainError(ErrorCode.RECOVERY_LINK_INVALID)
        return name, voter_id

    def _passkeys(self, name: str) -> Passkeys:
        passkeys = self._auth_cells.of(name).passkeys
        if passkeys is None:
            raise DomainError(ErrorCode.FACTOR_NOT_FOUND, "passkeys are not taken here")
        return passkeys

    async def _ask_in(self, name: str, hashes: tuple[KeyedHash, ...]) -> DomainError | None:
        """Begin the request in a cell; return why that cannot be."""
        request = RecoverAccountInput(
            request_id=new_recovery_id(name),
            cell=name,
            mail=hashed_values(hashes),
        )
        try:
            await self._cell_of(name).account_processes.recover(request)
        except DomainError as error:
            return error
        return None

    async def _admit_device(self, asked: RecoveryAsked) -> None:
        """Refuse a device that may not be used for this; what raises the risk is for the login that follows."""
        if self._devices is None:
            raise DomainError(ErrorCode.DEVICES_UNAVAILABLE, "nobody to ask")
        event = await self._devices.event(asked.device_event_id)
        circumstances = DeviceCircumstances(
            now=datetime.now(UTC),
            nonce=asked.nonce,
            used_before=await self._used_before(event.event_id),
            client_address=asked.client_address,
        )
        verdict = judge_device(event, circumstances, DeviceUse.RECOVERY, CURRENT_DEVICE_POLICY)
        if verdict.error is not None and verdict.decision is not DeviceDecision.RISKY:
            raise DomainError(verdict.error)

    async def _used_before(self, event_id: str) -> bool:
        """Use an event up in every cell that is there, since nobody knows yet which one it is about.

        Raises:
            DomainError: why the first cell cannot tell, where none can.
        """
        request = f"recovery/{secrets.token_hex(16)}"
        told = await asyncio.gather(*(self._use_in(name, event_id, request) for name in self._cells))
        answers = [each for each in told if not isinstance(each, DomainError)]
        if not answers:
            raise next(each for each in told if isinstance(each, DomainError))
        return not all(answers)

    async def _use_in(self, name: str, event_id: str, request: str) -> bool | DomainError:
        """Use an event up in a cell; return whether it was fresh there, or why that is not known."""
        try:
            return await self._auth_cells.of(name).device_events.use(event_id, request)
        except DomainError as error:
            return error
