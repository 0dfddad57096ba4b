"""Finds the account that somebody logs in to: it may be at home in any cell."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from api.auth.cells import AuthCells
from domain.accounts import Account, KeyedHash, LookupHashes, LookupKind


@dataclass(frozen=True, slots=True)
class Found:
    """The account with a value, or None; `failure` says why some cell, and not every one, could not be asked for it."""

    account: Account | None
    failure: BaseException | None = None


class AccountFinder:
    """Looks in every cell, or in the one that the client names."""

    def __init__(self, cells: AuthCells, names: Sequence[str], hashes: LookupHashes) -> None:
        self._cells = cells
        self._names = tuple(names)
        self._hashes = hashes

    async def find(self, kind: LookupKind, value: str, cell: str | None = None) -> Account | None:
        """Return the open account with a value, or None where no cell has one.

        Raises:
            DomainError: `cell_unavailable`, `directory_unavailable` where it may be in a cell that is away;
                `wrong_cell`, `key_unavailable`, `malformed_request`.
        """
        found = await self.look(kind, value, cell)
        if found.account is None and found.failure is not None:
            raise found.failure
        return found.account

    async def look(self, kind: LookupKind, value: str, cell: str | None = None) -> Found:
        """Return what the cells that can be asked have of a value.

        Raises:
            DomainError: `cell_unavailable`, `directory_unavailable` where none can be asked; `wrong_cell`,
                `key_unavailable`, `malformed_request`.
        """
        hashes = await self._hashes.every(kind, value)
        names = (cell,) if cell else self._names
        found = await asyncio.gather(*(self._find_in(name, kind, hashes) for name in names), return_exceptions=True)
        failures = [each for each in found if isinstance(each, BaseException)]
        if len(failures) == len(names):
            raise failures[0]
        accounts = [each for each in found if isinstance(each, Account)]
        return Found(accounts[0] if accounts else None, failures[0] if failures else None)

    async def _find_in(self, name: str, kind: LookupKind, hashes: Sequence[KeyedHash]) -> Account | None:
        return await self._cells.of(name).accounts.find(kind, hashes)
