"""What never reaches a log line, whoever logs it."""

import re
from collections.abc import Mapping
from typing import Any, Final

REDACTED: Final = "[redacted]"
SECRET_WORDS: Final = frozenset(
    {
        "answer", "answers", "authorization", "ballot", "body", "choice", "choices", "cookie", "credential",
        "credentials", "document", "dpop", "email", "evidence", "jwt", "nullifier", "nullifiers", "option", "options",
        "passphrase", "passport", "password", "passwords", "payload", "phone", "proof", "receipt", "sealed", "secret",
        "secrets", "signature", "token", "tokens",
    }
)  # fmt: skip
_SECRET_NAMES: Final = frozenset({"api_key", "private_key", "idempotency_key", "first_name", "last_name", "full_name"})
_MEASURES: Final = frozenset({"bytes", "count", "ms", "s", "seconds"})  # `payload_bytes` is a size, not a payload
_SECRET_TEXT: Final = re.compile(
    r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"  # a JWT
    r"|\b(?:Bearer|DPoP|Basic)\s+[^\s,;'\"]+"
    r"|://[^/\s:@]+:[^/\s@]+@"  # a password in an address
    r"|\\x[0-9a-f]{32,}",  # bytes as PostgreSQL prints them: a nullifier, a sealed ballot
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
MAX_TEXT: Final = 4096


def names_secret(name: str) -> bool:
    """Tell whether a field of this name may hold a token, a choice or personal data."""
    plain = name.lower().replace("-", "_")
    name = _CAMEL.sub("_", name).lower().replace("-", "_")
    words = [*plain.split("_"), *name.split("_")]
    if words[-1] in _MEASURES and len(words) > 1:
        return False
    return name in _SECRET_NAMES or not SECRET_WORDS.isdisjoint(words)


def redact(value: Any) -> Any:
    """Return `value` with secret fields, tokens inside text, and bytes of any kind taken out; depth is kept."""
    if isinstance(value, str):
        return _SECRET_TEXT.sub(REDACTED, value[:MAX_TEXT])
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(name): REDACTED if names_secret(str(name)) else redact(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(inner) for inner in value]
    return redact(str(value))
