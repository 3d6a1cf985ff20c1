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


@pytest.mark.parametrize(("workers", "partitions", "instead"), [(3, 4, "2, or 4"), (5, 8, "4, or 8")])
def test_a_number_of_workers_that_may_leave_one_without_work_is_refused(
    workers: int, partitions: int, instead: str
) -> None:
    with pytest.raises(CommandError, match=f"give {instead}") as refused:
        services_with(workers, partitions)
    assert refused.value.code == 2


@pytest.mark.parametrize(("workers", "partitions"), [(1, 3), (2, 3), (3, 5), (4, 8), (8, 8)])
def test_a_number_of_workers_that_all_have_work_is_taken(workers: int, partitions: int) -> None:
    assert len(services_with(workers, partitions)) == len(SERVICES) + workers - 1


def test_one_worker_is_the_table_as_it_stands() -> None:
    assert services_with(1, 1) == SERVICES
