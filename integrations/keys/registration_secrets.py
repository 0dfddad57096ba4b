"""The secret of who registers: it follows from the registration's id under a key, and nothing of it is stored.

Neither the database nor an id, an entry or a history tells it; only who may use the key can make it again.
"""

import hashlib
import hmac
from typing import Final

from domain.framing import framed
from domain.ports import KeyManagement
from integrations.keys.base64url import encode_text
from integrations.keys.purposes import REGISTRATION

_DOMAIN: Final = b"comitia/registration-secret/1"
_PREFIX: Final = "rs_"


class RegistrationSecrets:
    """Makes and checks the secrets; needs the purpose `registration`.

    Calls raise DomainError `key_unavailable`, `key_destroyed`.
    """

    def __init__(self, keys: KeyManagement) -> None:
        self._keys = keys
        self._held: dict[str, bytes] = {}  # by key id, of which our own rows name a few

    async def newest_key(self) -> str:
        """Return the id of the key that a registration which begins now is to be kept with."""
        key = await self._keys.current(REGISTRATION)
        self._held[key.key_id] = key.secret
        return key.key_id

    async def of(self, registration_id: str, key_id: str) -> str:
        """Return the secret of a registration, 256 bits as `rs_...`: whoever asks again gets the same one."""
        if key_id not in self._held:
            self._held[key_id] = (await self._keys.by_id(key_id)).secret
        message = framed(_DOMAIN, registration_id.encode())
        return _PREFIX + encode_text(hmac.digest(self._held[key_id], message, hashlib.sha256))

    async def is_right(self, registration_id: str, key_id: str, shown: str) -> bool:
        """Tell whether what was shown is the secret; how long it takes says nothing about how much of it is."""
        expected = await self.of(registration_id, key_id)
        return hmac.compare_digest(expected.encode(), shown.encode())
