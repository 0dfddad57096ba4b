"""What processes and their steps take and return, so that a history can be read without the code that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.contracts.base import Contract


@dataclass(frozen=True, slots=True)
class Signature:
    """The contract that something is given, and the one that comes of it; None where it is none of ours."""

    given: type[Contract] | None = None
    came: type[Contract] | None = None


@dataclass(frozen=True, slots=True)
class Signatures:
    """Signatures by name: of activities and workflows, and of updates and signals within their workflow."""

    activities: Mapping[str, Signature] = field(default_factory=dict)
    workflows: Mapping[str, Signature] = field(default_factory=dict)
    messages: Mapping[tuple[str, str], Signature] = field(default_factory=dict)
