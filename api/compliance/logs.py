"""Audit logs as compliance officers read them: from what is sealed, and from no database."""

from collections.abc import Collection, Mapping

from activities.log_reading import LogReading
from domain.audit_log import origin_of
from domain.audit_ports import LockedObjects, LogSigner
from domain.checkpoints import Checkpoint, verifier_key
from domain.errors import DomainError, ErrorCode
from domain.log_proofs import ProvedEntry


class LogDesk:
    """Answers about the logs of every cell and of the catalogue.

    All calls raise DomainError `not_found`, `objects_unavailable`, `key_unavailable`, and `audit_log_contradicted`
    where what is kept is not what was signed.
    """

    def __init__(self, objects: LockedObjects, signer: LogSigner, logs: Collection[str], environment: str) -> None:
        self._signer = signer
        self._readings = {log: LogReading(objects, signer, log, origin_of(environment, log)) for log in sorted(logs)}

    @property
    def readings(self) -> Mapping[str, LogReading]:
        """Every log, read from its store."""
        return self._readings

    async def is_reachable(self) -> bool:
        """Tell whether the store of logs answers, whatever is in it."""
        return all([await reading.is_reachable() for reading in self._readings.values()])

    async def all(self) -> list[tuple[str, Checkpoint | None]]:
        """Return every log with its newest tree head, or None where nothing is sealed yet."""
        return [(log, await reading.newest()) for log, reading in self._readings.items()]

    async def verifier_keys(self) -> list[str]:
        """Return the public keys of every log, a line each, as tools for signed notes take them."""
        keys = await self._signer.public_keys()
        return [verifier_key(reading.origin, key) for reading in self._readings.values() for key in keys]

    async def note(self, log: str) -> bytes:
        """Return the newest tree head of a log, a signed note."""
        reading, head = await self._newest(log)
        return await reading.note(head.size)

    async def entry(self, log: str, index: int, size: int | None = None) -> ProvedEntry:
        """Return an entry with its proof, under the tree head of `size` entries, or under the newest."""
        reading, head = await self._newest(log)
        if size is not None and size != head.size:
            if size > head.size or not await reading.has_head(size):
                raise DomainError(ErrorCode.NOT_FOUND, "no tree head of this size")
            head = await reading.checkpoint(size)
        if index >= head.size:
            raise DomainError(ErrorCode.NOT_FOUND, "no such entry")
        return await reading.prove(index, head)

    async def consistency(self, log: str, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of `new` entries, of which there is a tree head, continues that of `old`."""
        reading, head = await self._newest(log)
        if not old <= new <= head.size or not await reading.has_head(new):
            raise DomainError(ErrorCode.NOT_FOUND, "no such tree heads")
        return await reading.consistency(old, new)

    async def _newest(self, log: str) -> tuple[LogReading, Checkpoint]:
        reading = self._readings.get(log)
        head = None if reading is None else await reading.newest()
        if reading is None or head is None:
            raise DomainError(ErrorCode.NOT_FOUND, "no such log, or nothing of it is sealed")
        return reading, head
