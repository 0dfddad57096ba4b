"""Payloads that staff send to have them opened, as Temporal's own UI and command line do."""

from collections.abc import Collection, Sequence
from json import dumps
from typing import Final

from temporalio.api.common.v1 import Payload

from domain.errors import DomainError, ErrorCode
from domain.masking import MASK
from domain.ports import KeyManagement
from domain.recognition import Recognition
from domain.tokens import Role
from integrations.keys.purposes import history
from integrations.temporal.codec import ENCODING, EncryptionCodec, PayloadChangedError

_JSON: Final = b"json/plain"
_NULL: Final = b"binary/null"


class RemoteCodec:
    """Opens what lasting histories of a cell keep, and nothing else: payloads in flight pair votes and nullifiers."""

    def __init__(self, keys: KeyManagement, recognition: Recognition) -> None:
        self._keys = keys
        self._recognition = recognition

    async def opened(self, cell: str, payloads: Sequence[Payload], roles: Collection[Role]) -> list[Payload]:
        """Return payloads of a cell as these roles see them; one that was never sealed comes back as it is.

        Each call asks for its keys anew, so a key that was destroyed opens nothing from then on.

        Raises:
            DomainError: `forbidden` for what other keys have sealed, `malformed_request` for what is not as its key
                has sealed it, `key_destroyed`, `key_unavailable`.
        """
        for payload in payloads:
            if is_sealed(payload):
                _require_lasting(cell, payload)
        try:
            found = await EncryptionCodec(self._keys, history(cell)).decode(payloads)
        except PayloadChangedError as error:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "a payload does not open") from error
        return [
            self._shown(after, roles) if is_sealed(before) else before
            for before, after in zip(payloads, found, strict=True)
        ]

    def _shown(self, payload: Payload, roles: Collection[Role]) -> Payload:
        encoding = payload.metadata.get("encoding")
        if encoding == _NULL:
            return Payload(metadata={"encoding": _NULL})
        shown = self._recognition.shown(payload.data, roles) if encoding == _JSON else MASK
        return Payload(metadata={"encoding": _JSON}, data=dumps(shown, separators=(",", ":")).encode())


def is_sealed(payload: Payload) -> bool:
    """Tell whether a payload says that it is encrypted."""
    return bool(payload.metadata.get("encoding") == ENCODING)


def _require_lasting(cell: str, payload: Payload) -> None:
    """Raise DomainError unless a payload names a key of a cell's lasting histories."""
    try:
        key_id = payload.metadata.get("encryption-key-id", b"").decode("ascii")
    except UnicodeDecodeError as error:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "a payload names no key") from error
    if not key_id.startswith(f"{history(cell)}/"):
        raise DomainError(ErrorCode.FORBIDDEN, "not sealed for the lasting histories of this namespace")
