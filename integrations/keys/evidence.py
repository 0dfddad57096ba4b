"""Checks the evidence of participations under the issuer's public keys."""

from domain.eligibility import evidence_message
from domain.errors import DomainError, ErrorCode
from domain.ports import KeyManagement
from domain.reconciliation import EvidenceCheck
from integrations.keys.purposes import EVIDENCE
from integrations.keys.signing import is_signed


class EvidenceVerifier:
    """Implements `EvidenceKeys`: every key that was ever published and not destroyed, since evidence is for years."""

    def __init__(self, keys: KeyManagement) -> None:
        self._keys = keys

    async def check_for(self, cell: str) -> EvidenceCheck:
        """Return the check of evidence for one cell; it may be handed to other threads and processes.

        Raises:
            DomainError: `key_unavailable`, also where there is no key at all.
        """
        public_keys = tuple((await self._keys.public_keys(EVIDENCE)).values())
        if not public_keys:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, "no key of the issuer of evidence is published")
        return _Check(cell, public_keys)


class _Check:
    """Tries the key first that was right before: evidence of one time is by one key."""

    def __init__(self, cell: str, public_keys: tuple[bytes, ...]) -> None:
        self._cell = cell
        self._public_keys = public_keys
        self._last = public_keys[-1]

    def __call__(self, survey_id: str, nullifier: bytes, region: str, evidence: bytes) -> bool:
        message = evidence_message(survey_id, nullifier, self._cell, region)
        last = self._last
        if is_signed(message, evidence, last):
            return True
        for public_key in reversed(self._public_keys):
            if public_key != last and is_signed(message, evidence, public_key):
                self._last = public_key
                return True
        return False
