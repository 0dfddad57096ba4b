"""Sends codes by mail, beside the request: an answer says neither whether there is an account nor how fast mail is."""

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from api.auth.cells import AuthCell, AuthCells
from api.auth.login_accounts import AccountFinder
from api.auth.login_proofs import code_subject
from domain.accounts import LookupKind
from domain.credentials import new_sent_code
from domain.errors import DomainError, ErrorCode
from domain.mailing import Mailer, Message, MessageKind
from domain.registration import MAIL_FIELD
from domain.sessions import MAY_LOG_IN

_AT_ONCE: Final = 500

log = structlog.get_logger(__name__)


class LoginCodes:
    """Codes of logins and of further factors; one that cannot be sent is asked for again by its person."""

    def __init__(self, cells: AuthCells, accounts: AccountFinder, mailer: Mailer) -> None:
        self._cells = cells
        self._accounts = accounts
        self._mailer = mailer
        self._sending: set[asyncio.Task[None]] = set()

    def send_login_code(self, mail: str, nonce: str, cell: str | None = None) -> None:
        """Send a code to an address, if it has an account that may log in. Raises DomainError `overloaded`."""
        self._beside(self._find_and_send(mail, nonce, cell))

    def send_step_up_code(self, cell: AuthCell, voter_id: str, subject: str) -> None:
        """Send a voter a code for a subject. Raises DomainError `overloaded`."""
        self._beside(self._send(cell, voter_id, subject))

    async def close(self) -> None:
        """Wait for what is being sent, a few seconds at most."""
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=5)
            for task in late:
                task.cancel()

    def _beside(self, sending: Coroutine[Any, Any, None]) -> None:
        if len(self._sending) >= _AT_ONCE:
            sending.close()
            raise DomainError(ErrorCode.OVERLOADED)
        task = asyncio.create_task(_logged(sending))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _find_and_send(self, mail: str, nonce: str, cell: str | None) -> None:
        account = await self._accounts.find(LookupKind.MAIL, mail, cell)
        if account is not None and account.status in MAY_LOG_IN:
            await self._send(self._cells.of(account.cell), account.voter_id, code_subject(account.voter_id, nonce))

    async def _send(self, cell: AuthCell, voter_id: str, subject: str) -> None:
        data = await cell.records.get(voter_id)
        if data is None or MAIL_FIELD not in data.fields:
            return
        code = new_sent_code()
        await cell.sent_codes.put(subject, code)
        key = f"{subject}/{secrets.token_hex(8)}"
        await self._mailer.send(Message(key=key, to=data.fields[MAIL_FIELD], kind=MessageKind.LOGIN_CODE, code=code))


async def _logged(sending: Coroutine[Any, Any, None]) -> None:
    try:
        await sending
    except DomainError as error:
        log.warning("login_code_not_sent", code=error.code)
