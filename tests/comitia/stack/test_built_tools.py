from pathlib import Path

import pytest

from comitia.stack.built_tools import built_tool, needed_tool


def test_a_tool_is_found_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMITIA_TOOLS_FOLDER", str(tmp_path))
    assert built_tool("something") is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "something").touch()
    assert built_tool("something") == needed_tool("something") == tmp_path / "bin" / "something"


def test_a_missing_tool_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMITIA_TOOLS_FOLDER", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="something is missing: make tools builds it, which needs Go"):
        needed_tool("something")
