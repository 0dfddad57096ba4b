"""The documents name modules, tests and pages that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
MODULE = re.compile(r"`((?:domain|workflows|activities|integrations|api|workers|comitia|tests|benchmarks)/[\w/.-]*)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    for name in MODULE.findall(text):
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), name
    for name in LINK.findall(text):
        assert (page.parent / name).exists(), name
    for file, test in TEST.findall(text):
        assert re.search(rf"^(?:async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"


def test_the_threat_model_names_a_test_for_most_of_what_it_says() -> None:
    assert len(TEST.findall((ROOT / "docs" / "threat-model.md").read_text())) > 40
