"""Cells by name, as far as this worker knows them."""

from collections.abc import Mapping
from typing import TypeVar

from domain.errors import DomainError, ErrorCode

T = TypeVar("T")


def known(cells: Mapping[str, T], name: str, otherwise: ErrorCode = ErrorCode.LEDGER_UNAVAILABLE) -> T:
    """Return what a worker has of a cell.

    Raises:
        DomainError: `otherwise`, which is retried: the worker does not know the cell yet, or cannot reach it, and
            another one may.
    """
    if name not in cells:
        raise DomainError(otherwise, f"no address of cell {name}")
    return cells[name]
