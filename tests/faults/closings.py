"""Faults that meet the end of a survey: while its cells are closed, and while its certificate is being made."""

from collections.abc import Iterator
from dataclasses import replace

from tests.faults.experiment import During, Fault
from tests.faults.kills import kill, pause
from tests.faults.overlaps import together

_WHO_CLOSES = ("workers-platform", "api-surveys", "api-votes", "temporal")
_WHO_CERTIFIES = ("workers-certification", "workers-reconciliation", "temporal", "postgres")


def at_end(fault: Fault, during: During) -> Fault:
    """The same fault at the end of a survey."""
    when = "certify" if during is During.CERTIFYING else "close"
    return replace(fault, name=f"{when}/{fault.name}", during=during)


def closings(own_postgres: str) -> Iterator[Fault]:
    """Who closes and who certifies is killed meanwhile; one cell's database, `own_postgres`, dies or stands still."""
    yield from (at_end(kill(name), During.CLOSING) for name in (*_WHO_CLOSES, own_postgres))
    yield at_end(pause(own_postgres), During.CLOSING)
    yield from (at_end(kill(name), During.CERTIFYING) for name in _WHO_CERTIFIES)


# Both who take part in it at once: the short form has one fault of the end, and this is it.
WHO_CERTIFIES_KILLED = at_end(
    together(kill("workers-certification"), kill("workers-reconciliation")), During.CERTIFYING
)
