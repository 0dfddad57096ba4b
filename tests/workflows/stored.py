"""Where histories that tests make are stored, and what is left out of them."""

from pathlib import Path
from typing import Any

HISTORIES = Path(__file__).parent.parent / "replay" / "histories"
RECORD = "COMITIA_RECORD_HISTORIES"  # set, the histories made here that are not stored yet are


def without_traces(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_traces(item) for name, item in value.items() if name != "stackTrace"}
    return [without_traces(item) for item in value] if isinstance(value, list) else value
