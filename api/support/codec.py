"""The codec server of Temporal's own UI and command line: opens what a history keeps, as far as a role goes."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from temporalio.api.common.v1 import Payload

from api.http.access import Principal
from api.named_cells import none_such
from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from domain.staff_entries import EachTimeEntries
from domain.tokens import Role
from integrations.temporal.remote_codec import RemoteCodec, is_sealed

_PERSON = "staff:"  # programs have no business with single payloads


@dataclass(frozen=True, slots=True)
class CodecCell:
    """A cell whose payloads are opened, and where that is written down."""

    name: str
    entries: EachTimeEntries


class CodecDesk:
    """Opens payloads for people of support and compliance. No answer is without its entry."""

    def __init__(self, cell_at: Callable[[str], CodecCell], codec: RemoteCodec) -> None:
        """`cell_at` returns the cell of a namespace, or raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._cell_at = cell_at
        self._codec = codec

    async def decode(self, namespace: str, payloads: Sequence[Payload], staff: Principal) -> list[Payload]:
        """Return payloads of a namespace as whoever asks may see them, once the entry of that is committed.

        Repeated, it is a second entry. What was never sealed comes back as it is; of that alone there is no entry.

        Raises:
            DomainError: `forbidden`, also for payloads in flight and those of another namespace; `not_found` for a
                namespace of no cell; `malformed_request` for what does not open; `key_destroyed`, `key_unavailable`,
                `cell_unavailable`, `directory_unavailable`.
        """
        if not staff.actor.startswith(_PERSON):
            raise DomainError(ErrorCode.FORBIDDEN, "a person of support or compliance asks")
        cell = self._cell(namespace)
        shown = await self._codec.opened(cell.name, payloads, staff.roles)
        sealed = [payload for payload in payloads if is_sealed(payload)]
        if sealed:
            await cell.entries.write(_entry(namespace, sealed, staff))
        return shown

    def _cell(self, namespace: str) -> CodecCell:
        with none_such(DomainError(ErrorCode.NOT_FOUND, "no cell has this namespace")):
            return self._cell_at(namespace)


def _entry(namespace: str, sealed: Sequence[Payload], staff: Principal) -> AuditEntry:
    """Return the entry of an opening; the protocol names no workflow, so it says which ciphertexts were opened."""
    role = Role.COMPLIANCE if Role.COMPLIANCE in staff.roles else Role.SUPPORT  # the one that sees more
    digests = ",".join(hashlib.sha256(payload.data).hexdigest() for payload in sealed)
    return AuditEntry(
        AuditKind.HISTORY_DECODED,
        staff.actor,
        "",
        role=role.value,
        facts={"namespace": namespace, "payloads": digests, "count": len(sealed)},
    )
