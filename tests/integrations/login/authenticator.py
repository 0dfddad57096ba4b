"""A software authenticator: one P-256 passkey, and every way in which its answers can be wrong."""

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

RP_ID = "vote.example.org"
ORIGIN = "https://vote.example.org"
_PRESENT, _VERIFIED, _ATTESTED = 0x01, 0x04, 0x40


def text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


class Authenticator:
    """Signs for one domain; `signatures` is its counter."""

    def __init__(self) -> None:
        self.credential_id = secrets.token_bytes(32)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.signatures = 1

    def register(self, options: dict[str, Any], **wrong: Any) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        cose = cbor2.dumps(wrong.get("cose", {1: 2, 3: -7, -1: 1, -2: x, -3: y}))
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cose
        data = self._data(_ATTESTED, **wrong) + attested
        said = {"fmt": "none", "attStmt": {}, "authData": data}
        more = wrong.get("attestation", {})
        attestation = cbor2.dumps({**said, **more} if isinstance(more, dict) else more)
        client = self._client("webauthn.create", options, **wrong)
        return self._answer({"clientDataJSON": text(client), "attestationObject": text(attestation)})

    def sign(self, options: dict[str, Any], **wrong: Any) -> dict[str, Any]:
        self.signatures += 1
        data = self._data(0, **wrong)
        client = self._client("webauthn.get", options, **wrong)
        signature = self._key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        if wrong.get("signature"):
            signature = self._key.sign(b"something else", ec.ECDSA(hashes.SHA256()))
        answer = {"clientDataJSON": text(client), "authenticatorData": text(data), "signature": text(signature)}
        return self._answer(answer)

    def _data(self, more: int, **wrong: Any) -> bytes:
        rp_id: str = wrong.get("rp_id", RP_ID)
        flags = more | wrong.get("flags", _PRESENT | _VERIFIED)
        counter: int = wrong.get("counter", self.signatures)
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + counter.to_bytes(4, "big")

    @staticmethod
    def _client(kind: str, options: dict[str, Any], **wrong: Any) -> bytes:
        found = {
            "type": wrong.get("type", kind),
            "challenge": wrong.get("challenge", options["challenge"]),
            "origin": wrong.get("origin", ORIGIN),
            "crossOrigin": False,
        }
        return json.dumps(found).encode()

    def _answer(self, response: dict[str, str]) -> dict[str, Any]:
        credential_id = text(self.credential_id)
        return {"id": credential_id, "rawId": credential_id, "type": "public-key", "response": response}
