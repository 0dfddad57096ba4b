"""The further factor of a challenged login: by the same client, within ten minutes, five wrong ones at most."""

from datetime import UTC, datetime
from typing import Any

from api.auth.cells import AuthCell, AuthCells
from api.auth.login_codes import LoginCodes
from api.auth.login_proofs import PasswordFactor
from api.auth.logins import LoginDesk
from api.auth.sessions import Tokens
from domain.contracts.login import LoginOutcome, StepUpFactor, TriedFactor
from domain.errors import DomainError, ErrorCode
from domain.ids import ATTEMPT_ID, cell_in
from domain.logins import STEP_UP_LIFETIME, LoginAttempt
from domain.sessions import MAY_LOG_IN
from integrations.identity_cell import IdentityCells


class StepUpDesk:
    """Finishes challenged logins. Calls raise DomainError `login_not_found` for one that waits for nothing (any more).

    They raise `device_mismatch` for another client's key, `factor_not_found` for what is no factor of this login, and
    `wrong_cell`, `cell_unavailable`, `directory_unavailable`, `key_unavailable`.
    """

    def __init__(
        self, cells: AuthCells, identity: IdentityCells, logins: LoginDesk, passwords: PasswordFactor, codes: LoginCodes
    ) -> None:
        self._cells = cells
        self._identity = identity
        self._logins = logins
        self._passwords = passwords
        self._codes = codes

    async def finish(
        self,
        attempt_id: str,
        jkt: str,
        factor: StepUpFactor,
        *,
        code: str = "",
        passkey: dict[str, Any] | None = None,
        client_address: str = "",
    ) -> Tokens:
        """Return the tokens of a login whose further factor is good.

        Raises:
            DomainError: `login_failed`; `workflows_unavailable`: a factor that is good once may then be used up.
        """
        attempt, cell = await self._waiting(attempt_id, jkt, factor)
        passed = await self._check(cell, attempt, factor, code, passkey or {})
        processes = self._identity.of(cell.name).login_processes
        state = await processes.step_up(attempt_id, TriedFactor(factor=factor, passed=passed))
        account = await cell.accounts.get(attempt.voter_id)
        if state.outcome is not LoginOutcome.STEPPED_UP or account is None or account.status not in MAY_LOG_IN:
            raise DomainError(ErrorCode.LOGIN_FAILED)
        return await self._logins.open(attempt, account, client_address)

    async def send_code(self, attempt_id: str, jkt: str) -> None:
        """Send the voter a code for a challenged login. Raises DomainError `overloaded`."""
        attempt, cell = await self._waiting(attempt_id, jkt, StepUpFactor.MAIL_CODE)
        self._codes.send_step_up_code(cell, attempt.voter_id, _subject(attempt_id))

    async def passkey_options(self, attempt_id: str, jkt: str) -> dict[str, Any]:
        """Return the WebAuthn options for the voter's own passkeys."""
        attempt, cell = await self._waiting(attempt_id, jkt, StepUpFactor.PASSKEY)
        if cell.passkeys is None:
            raise DomainError(ErrorCode.FACTOR_NOT_FOUND)
        return await cell.passkeys.begin_login(attempt.voter_id)

    async def _waiting(self, attempt_id: str, jkt: str, factor: StepUpFactor) -> tuple[LoginAttempt, AuthCell]:
        name = cell_in(ATTEMPT_ID, attempt_id)
        if name is None:
            raise DomainError(ErrorCode.LOGIN_NOT_FOUND)
        attempt = await self._identity.of(name).logins.get(attempt_id)
        if attempt is None:
            raise DomainError(ErrorCode.LOGIN_NOT_FOUND)
        if attempt.jkt != jkt:
            raise DomainError(ErrorCode.DEVICE_MISMATCH)
        if attempt.outcome is not None or datetime.now(UTC) >= attempt.at + STEP_UP_LIFETIME:
            raise DomainError(ErrorCode.LOGIN_NOT_FOUND)
        if factor not in attempt.factors:
            raise DomainError(ErrorCode.FACTOR_NOT_FOUND)
        return attempt, self._cells.of(name)

    async def _check(
        self, cell: AuthCell, attempt: LoginAttempt, factor: StepUpFactor, code: str, passkey: dict[str, Any]
    ) -> bool:
        voter_id = attempt.voter_id
        match factor:
            case StepUpFactor.TOTP:
                return await cell.totp.check(voter_id, code)
            case StepUpFactor.RECOVERY_CODE:
                return await cell.recovery_codes.redeem(voter_id, code)
            case StepUpFactor.MAIL_CODE:
                return await cell.sent_codes.redeem(_subject(attempt.attempt_id), code)
            case StepUpFactor.PASSWORD:
                return await self._passwords.check(cell, voter_id, code)
            case StepUpFactor.PASSKEY:
                return cell.passkeys is not None and await cell.passkeys.finish_login(passkey) == voter_id
            case StepUpFactor.IDP:
                return True  # it was asked for, and given, in this very login


def _subject(attempt_id: str) -> str:
    return f"step-up/{attempt_id}"
