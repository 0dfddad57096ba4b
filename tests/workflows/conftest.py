"""Temporal as it is, and the one that skips time."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.workflows.survey_world import client
from workflows.search_attributes import ALL

__all__ = ["client"]

SERVER = Path(sys.executable).parent / "temporal-test-server"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(SERVER), data_converter=pydantic_data_converter
    ) as environment:
        kinds = {key.name: IndexedValueType.ValueType(key.indexed_value_type) for key in ALL}
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(search_attributes=kinds)
        )
        yield environment
