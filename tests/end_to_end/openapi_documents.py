"""The committed OpenAPI documents: `COMITIA_RECORD_OPENAPI=1` lets the test write what the running services say."""

import json
from pathlib import Path
from typing import Any

DOCUMENTS = Path(__file__).parents[2] / "docs" / "openapi"
SERVICES = ("surveys", "eligibility", "votes", "results", "streams", "auth", "webhooks", "support", "compliance")
RECORD = "COMITIA_RECORD_OPENAPI"


def committed(service: str) -> dict[str, Any]:
    """Return the committed document of a service, empty where there is none."""
    path = DOCUMENTS / f"{service}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def commit(service: str, document: dict[str, Any]) -> None:
    """Write the document of a service."""
    DOCUMENTS.mkdir(exist_ok=True)
    (DOCUMENTS / f"{service}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
