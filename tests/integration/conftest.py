"""Fixtures of the integration tests that run the whole stack.

Rule 1. The servers are the tests' own, because they are killed and emptied.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import own_server
from tests.integration.faults.stack import Stack

PARTITIONS = 2


@pytest.fixture(scope="session")
def servers_of_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One broker and one Redis for all fault tests: they start slower than the tests run."""
    folder = tmp_path_factory.mktemp("stack")
    with own_server("kafka", folder / "kafka") as broker, own_server("redis", folder / "redis") as store:
        yield Stack(broker, store, folder, PARTITIONS)


@pytest.fixture
def stack(servers_of_stack: Stack) -> Iterator[Stack]:
    """The stack as on its first day: topics, state and lake are empty, no service runs."""
    servers_of_stack.empty()
    yield servers_of_stack
    servers_of_stack.end_services()
