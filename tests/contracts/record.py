"""Stores the schema and an example of every contract that is new or has grown: `python -m tests.contracts.record`.

Refuses to store a change that is no addition: what histories and topics keep would no longer be readable.
"""

import json
import sys
from typing import Any

from tests.contracts.models import (
    EXAMPLES,
    SCHEMAS,
    breaking_changes,
    contract_models,
    example_of,
    schema_of,
    stored_examples,
    stored_schema,
)


def main() -> None:
    """Store what is new."""
    for name, model in contract_models().items():
        before, after = stored_schema(name), schema_of(model)
        if before == after:
            continue
        if before is not None and (broken := breaking_changes(before, after)):
            sys.exit(f"{name}: {'; '.join(broken)}")
        (SCHEMAS / f"{name}.json").write_text(_text(after))
        (EXAMPLES / f"{name}-{len(stored_examples(name)) + 1}.json").write_text(_text(example_of(model)))


def _text(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
