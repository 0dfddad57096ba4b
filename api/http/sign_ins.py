"""Has it written down that staff came into a service, or were refused, before they are answered."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

import structlog

from domain.audit import AuditEntry
from domain.errors import DomainError, ErrorCode
from domain.ids import STAFF_ID, cell_in
from domain.staff_sign_ins import StaffSignIns, digest_of, refused, signed_in
from domain.tokens import StaffClaims

_REMEMBERED: Final = 4_096  # entries that are there, of which nobody is asked again

log = structlog.get_logger(__name__)


class SignIns:
    """The sign-ins of one service. An entry goes into the log of whoever's home cell; while that is away, another's."""

    def __init__(self, service: str, logs: Mapping[str, StaffSignIns]) -> None:
        """`logs` are those that this service may write to, by name; there is one at least."""
        self._service = service
        self._logs = logs
        self._written: OrderedDict[bytes, None] = OrderedDict()

    async def let_in(self, claims: StaffClaims) -> None:
        """Write down that somebody of staff came in, once a session.

        Raises:
            DomainError: `audit_log_unavailable`, or what the logs say; none can be written to, so nobody comes in.
        """
        await self._note(claims, signed_in(claims.sub, claims.sid, claims.roles, self._service))

    async def turn_away(self, claims: StaffClaims, code: ErrorCode) -> None:
        """Write down that a genuine token was refused, once a session and cause; the refusal stands in any case."""
        try:
            await self._note(claims, refused(claims.sub, claims.sid, claims.roles, self._service, code))
        except DomainError as error:
            log.warning("staff_refusal_not_noted", code=code, error=error.code)

    async def _note(self, claims: StaffClaims, entry: AuditEntry) -> None:
        digest = digest_of(entry)
        if digest in self._written:
            self._written.move_to_end(digest)
            return
        away = DomainError(ErrorCode.AUDIT_LOG_UNAVAILABLE, "no log can be written to")
        for each in self._in_turn(cell_in(STAFF_ID, claims.sub)):
            try:
                await each.note(entry)
            except DomainError as error:
                if not error.spec.retryable:
                    raise
                away = error
            else:
                self._remember(digest)
                return
        raise away

    def _in_turn(self, home: str | None) -> Iterator[StaffSignIns]:
        if home is not None and home in self._logs:
            yield self._logs[home]
        yield from (each for name, each in self._logs.items() if name != home)

    def _remember(self, digest: bytes) -> None:
        self._written[digest] = None
        if len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)
