"""What needs a tool that `make tools` builds: left out where there is none, and a failure where all should be there."""

import os

import pytest

from comitia.stack.built_tools import CHROMIUM, built_tool


def need_tools(*names: str) -> None:
    """Skip the test where a tool is missing; with CI=true that is a failure, but of a browser that is not to be had."""
    missing = [name for name in names if built_tool(name) is None]
    if not missing:
        return
    said = f"{', '.join(missing)} is missing: make tools"
    if os.environ.get("CI") == "true" and missing != [CHROMIUM]:
        pytest.fail(said)
    pytest.skip(said)
