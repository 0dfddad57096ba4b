"""Modules of `workflows` are shared by all executions: they keep nothing, and use nothing that differs in a replay."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import workflows

_BESIDE = frozenset({"workflows.signatures"})  # reads workflows, and none of them imports it
MODULES = [path for path in sorted(Path(workflows.__path__[0]).glob("*.py")) if f"workflows.{path.stem}" not in _BESIDE]
_ROOTS = frozenset(
    {
        "activities",
        "asyncio",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "domain",
        "pydantic",
        "temporalio",
        "typing",
        "workflows",
    }
)
_MAKERS = frozenset(
    {"ActivityConfig", "RetryPolicy", "SearchAttributeKey", "TypeVar", "datetime", "frozenset", "timedelta"}
)
_CHANGES = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"}
    | {"remove", "setdefault", "sort", "update"}
)
_DIFFERS = {
    "asyncio": frozenset({"as_completed", "get_event_loop", "get_running_loop", "run", "to_thread", "wait"}),
    "date": frozenset({"today"}),
    "datetime": frozenset({"now", "today", "utcnow"}),
}
_BUILTINS = frozenset({"__import__", "breakpoint", "eval", "exec", "globals", "hash", "id", "input", "open", "print"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults(source: str) -> list[str]:
    """Return what executions could tell each other by this module, and what no replay would find the same."""
    tree = ast.parse(source)
    return [f"line {node.lineno}: {what}" for node, what in _faults(tree)]


def _faults(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.stmt):
            yield from ((node, what) for what in _uses(node))
        if isinstance(node, ast.ClassDef):
            yield from _kept(node.body, f"class {node.name}")
    yield from _kept(tree.body, "module")
    own = {name for statement in tree.body for name in _bound(statement)}
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            yield from _writes(node, own | {"cls"})


def _uses(node: ast.expr | ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
        outside = [name for name in names if name.partition(".")[0] not in _ROOTS or name in _BESIDE]
        yield from (f"imports {name}" for name in outside)
        yield from (f"imports {name}" for name in _renamed(node))
    elif isinstance(node, _Function):
        defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]
        yield from (f"keeps {ast.unparse(default)}" for default in defaults if not _is_constant(default))
    elif isinstance(node, ast.Global):
        yield "writes to the module"
    elif isinstance(node, ast.Name) and node.id in _BUILTINS:
        yield f"uses {node.id}"
    elif isinstance(node, ast.Attribute) and node.attr in _DIFFERS.get(_last(node.value), ()):
        yield f"uses {_last(node.value)}.{node.attr}"


def _renamed(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Name what is imported by itself, or under another name, so that its uses would not be seen."""
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        if alias.name in _DIFFERS.get(module, ()) or (alias.asname is not None and alias.name in _DIFFERS):
            yield f"{module}.{alias.name}"


def _kept(body: list[ast.stmt], where: str) -> Iterator[tuple[ast.stmt, str]]:
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            if not _is_constant(statement.value):
                yield statement, f"{where} keeps {ast.unparse(statement.value)}"
        elif isinstance(statement, ast.AugAssign | ast.For | ast.While | ast.Delete):
            yield statement, f"{where} computes"


def _is_constant(value: ast.expr) -> bool:
    match value:
        case ast.Tuple():
            return all(map(_is_constant, value.elts))
        case ast.Dict():  # nothing writes to it: `_writes`
            return None not in value.keys and all(map(_is_constant, value.values))
        case ast.BinOp():
            return _is_constant(value.left) and _is_constant(value.right)
        case ast.Subscript():  # a type
            return _is_constant(value.value)
        case ast.Call():
            return _root(value.func) in _MAKERS
        case _:
            return isinstance(value, ast.Constant | ast.Name | ast.Attribute)


def _writes(function: _Function, shared: set[str]) -> Iterator[tuple[ast.expr, str]]:
    local = {argument.arg for argument in ast.walk(function) if isinstance(argument, ast.arg)} - {"cls"}
    local |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(function):
        if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            written: ast.expr = node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
            written = node.func.value
        else:
            continue
        if _root(written) in shared - local:
            yield node, f"changes {ast.unparse(written)}"


def _bound(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
    if isinstance(statement, ast.ClassDef | _Function):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else _name(node) if isinstance(node, ast.expr) else ""


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return _name(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_of_workflows_may_be_shared(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from random import random",
        "import os.path",
        "from workflows.signatures import all_signatures",
        "SEEN = []",
        "SEEN: set[str] = set()",
        "SEEN = {'a': []}",
        "SEEN = Cache()",
        "class A:\n    seen = {}\n    known = [1]",
        "N = 0\ndef f():\n    global N\n    N += 1",
        "SEEN = {}\ndef f(key):\n    SEEN[key] = 1",
        "SEEN = {}\nclass A:\n    def f(self, key):\n        SEEN.update(key)",
        "SEEN = {}\ndef f(key):\n    del SEEN[key]",
        "from domain import ids\nasync def f():\n    ids.SEEN.append(1)",
        "class A:\n    @classmethod\n    def f(cls):\n        cls.seen = 1",
        "class A:\n    def f(self):\n        A.seen = 1",
        "from datetime import datetime\ndef f():\n    return datetime.now()",
        "import asyncio\nasync def f(tasks):\n    await asyncio.wait(tasks)",
        "def f():\n    return open('/etc/hostname')",
        "def f(value):\n    return hash(value)",
        "import datetime\ndef f():\n    return datetime.datetime.now()",
        "from asyncio import wait\nasync def f(tasks):\n    await wait(tasks)",
        "from datetime import datetime as dt\ndef f():\n    return dt.now()",
        "import asyncio as a\nasync def f(tasks):\n    await a.wait(tasks)",
        "def f(seen=[]):\n    return seen",
        "def f(*, seen={'a': set()}):\n    return seen",
    ],
)
def test_one_that_keeps_or_reaches_for_something_is_found(source: str) -> None:
    assert faults(source)
