"""How long a caller waits, as it says so itself: `Request-Timeout`, in the notation of gRPC.

At most eight digits and one letter: H, M and S are hours, minutes and seconds, m, u and n milli-, micro- and
nanoseconds. Source: gRPC over HTTP/2, `grpc-timeout`.
"""

import re
from typing import Final

from domain.errors import DomainError, ErrorCode

LONGEST_S: Final = 60.0  # nobody is waited for longer than this
_NOTATION: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def timeout_s(text: bytes) -> float:
    """Return how many seconds a caller waits, at most `LONGEST_S`.

    Raises:
        DomainError: `malformed_request`; this is no time-out.
    """
    found = _NOTATION.fullmatch(text)
    if found is None:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "Request-Timeout takes up to eight digits and a unit: 1500m, 2S")
    return min(LONGEST_S, int(found[1]) * _UNIT_S[found[2]])
