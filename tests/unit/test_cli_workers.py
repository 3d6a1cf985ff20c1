"""How many feature workers the runner starts, and when it refuses.

Rule 1. No process is started.
"""

from __future__ import annotations

import pytest

from cli.failure import CommandError
from cli.services import SERVICES, WORKER, services_with


def test_each_further_worker_has_its_own_name_port_and_id() -> None:
    services = services_with(4, 4)
    workers = [service for service in services if service.name.startswith(WORKER)]
    assert [dict(one.environment).get("FRAUD_WORKER_ID") for one in workers] == [None, "1", "2", "3"]
    assert len({one.port for one in services}) == len({one.name for one in services}) == len(SERVICES) + 3
    assert {one.ends_with for one in workers} == {workers[0].ends_with}


def test_more_workers_than_partitions_are_refused_with_the_remedy() -> None:
    with pytest.raises(CommandError, match=r"2 feature workers .* for 1 partitions.*FRAUD_PARTITIONS=2") as refused:
        services_with(2, 1)
    assert refused.value.code == 2


def test_one_worker_is_the_table_as_it_stands() -> None:
    assert services_with(1, 1) == SERVICES
