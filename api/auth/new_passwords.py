"""New passwords: long enough, known from no breach, and kept as a slow hash."""

from domain.breaches import BreachedPasswords
from domain.credentials import checked_password
from domain.errors import DomainError, ErrorCode
from integrations.login.passwords import Passwords


class NewPasswords:
    """Takes new passwords; while breaches cannot be looked up, none is taken."""

    def __init__(self, passwords: Passwords, breaches: BreachedPasswords | None) -> None:
        self._passwords = passwords
        self._breaches = breaches

    async def hash(self, password: str) -> bytes:
        """Return the hash to keep.

        Raises:
            DomainError: `password_not_accepted`; `breaches_unavailable`.
        """
        normal = checked_password(password)
        if self._breaches is None:
            raise DomainError(ErrorCode.BREACHES_UNAVAILABLE, "nobody to ask")
        if await self._breaches.times_seen(normal):
            raise DomainError(ErrorCode.PASSWORD_NOT_ACCEPTED, "others have used it, and it was stolen from them")
        return await self._passwords.hash(normal)
