"""Recovery codes: on paper, for who has lost the device; ten at a time, each good once."""

import hashlib
import secrets
from base64 import b32encode

from domain.credentials import RECOVERY_CODES, CredentialKind, Credentials
from domain.mailing import MessageKind

_BYTES = 10  # 80 bits, so that a fast hash will do


class RecoveryCodes:
    """The recovery codes of one cell's voters."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def renew(self, voter_id: str, session_id: str = "") -> list[str]:
        """Return new codes in place of all that there were, to be shown once: `abcd-efgh-ijkl-mnop`.

        `session_id` as in `Credentials.put`.
        """
        for old in await self._credentials.of(voter_id, CredentialKind.RECOVERY_CODE):
            await self._credentials.remove(voter_id, old.credential_id)
        codes = [b32encode(secrets.token_bytes(_BYTES)).decode("ascii").lower() for _ in range(RECOVERY_CODES)]
        notice: MessageKind | None = MessageKind.RECOVERY_CODES_CHANGED  # with the first of them
        for code in codes:
            handle = _handle(voter_id, code)
            await self._credentials.put(
                voter_id, CredentialKind.RECOVERY_CODE, handle, handle=handle, notice=notice, session_id=session_id
            )
            notice = None
        return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in codes]

    async def redeem(self, voter_id: str, code: str) -> bool:
        """Tell whether this is a code of the voter, once; hyphens, spaces and capitals do not matter."""
        return await self._credentials.spend(
            voter_id, _handle(voter_id, "".join(code.split()).replace("-", "").lower())
        )


def _handle(voter_id: str, code: str) -> bytes:
    return hashlib.sha256(f"{voter_id} {code}".encode()).digest()
