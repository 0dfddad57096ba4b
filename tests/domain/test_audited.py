"""No route and no activity changes anything without an entry, unless it is written down why."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import temporalio.activity

import activities
from domain.audit import AuditKind
from tests.audited import ACTIVITIES, PAGES, READINGS, ROUTES, SEEN, promised
from tests.end_to_end.openapi_documents import DOCUMENTS, committed

ROOT = Path(__file__).parents[2]
MUTATING = {"post", "put", "patch", "delete"}


def routes(methods: set[str]) -> set[str]:
    """Return what services document: a test keeps the documents as the services are."""
    return {
        f"{document.stem} {method.upper()} {path}"
        for document in DOCUMENTS.glob("*.json")
        for path, documented in committed(document.stem)["paths"].items()
        for method in documented
        if method in methods
    }


def activity_names() -> set[str]:
    names = set()
    for module in pkgutil.iter_modules(activities.__path__, "activities."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if found.__module__ == module.name:
                for _, method in inspect.getmembers(found, inspect.isfunction):
                    definition = temporalio.activity._Definition.from_callable(method)
                    if definition is not None and definition.name:
                        names.add(definition.name)
    return names


def walked() -> set[str]:
    """Return what tests take while `leaves` looks, as far as they name it in so many words."""
    calls = (
        node
        for path in (ROOT / "tests").rglob("test_*.py")
        if "leaves(" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "leaves"
    )
    return {
        argument.value
        for call in calls
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def test_every_mutating_route_leaves_an_entry_or_a_reason() -> None:
    assert len(ROUTES) > 40
    assert routes(MUTATING) == ROUTES.keys()
    assert routes({"get"}) >= {name for name in READINGS if " /console" not in name}


def test_every_activity_leaves_an_entry_or_a_reason() -> None:
    assert len(ACTIVITIES) > 60
    assert activity_names() == ACTIVITIES.keys()


def test_every_reason_says_something() -> None:
    reasons = {found for found in (*ROUTES.values(), *PAGES.values(), *ACTIVITIES.values()) if isinstance(found, str)}
    assert all(len(reason.split()) > 2 for reason in reasons)


def test_every_kind_is_seen_to_come_out_and_every_promise_is_a_kind_that_is() -> None:
    assert SEEN.keys() == set(AuditKind)
    promised = {
        kind
        for found in (*ROUTES.values(), *PAGES.values(), *ACTIVITIES.values())
        if not isinstance(found, str)
        for kind in found
    }
    assert promised <= SEEN.keys()
    for place in SEEN.values():
        file, _, name = place.partition("::")
        assert re.search(rf"^async def {name}\(", (ROOT / file).read_text(), re.MULTILINE), place


def test_every_route_and_page_that_promises_an_entry_is_taken_while_somebody_looks() -> None:
    # Those of surveys are taken in order by one test, which knows that they are all
    by_itself = {route for route in ROUTES if route.startswith("surveys ") and not route.endswith("/certify")}
    promising = {name for name in (*ROUTES, *PAGES, *READINGS) if promised(name)} - by_itself
    assert len(promising) > 15
    assert promising - walked() == set()
    assert walked() <= {*ROUTES, *PAGES, *READINGS, *ACTIVITIES}
