"""Recovery codes: on paper, for who has lost the device; ten at a time, each good once."""

import hashlib
import secrets
from base64 import b32encode

from domain.credentials import RECOVERY_CODES, Credentials

_BYTES = 10  # 80 bits, so that a fast hash will do


class RecoveryCodes:
    """The recovery codes of one cell's voters."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def renew(self, voter_id: str, session_id: str = "") -> list[str]:
        """Return new codes in place of all that there were, to be shown once: `abcd-efgh-ijkl-mnop`.

        `session_id` as in `Credentials.put`.
        """
        codes = [b32encode(secrets.token_bytes(_BYTES)).decode("ascii").lower() for _ in range(RECOVERY_CODES)]
        handles = [_handle(voter_id, code) for code in codes]
        await self._credentials.replace_recovery_codes(voter_id, handles, session_id)
        return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in codes]

    async def redeem(self, voter_id: str, code: str) -> bool:
        """Tell whether this is a code of the voter, once; hyphens, spaces and capitals do not matter."""
        return await self._credentials.spend(
            voter_id, _handle(voter_id, "".join(code.split()).replace("-", "").lower())
        )


def _handle(voter_id: str, code: str) -> bytes:
    return hashlib.sha256(f"{voter_id} {code}".encode()).digest()
