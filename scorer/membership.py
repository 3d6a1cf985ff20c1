"""The scorer in its consumer group: which partitions came or went, and whether another scorer took its name.

Rule 1. Nothing of the loop is touched here: it looks between two polls at what moved.
Rule 2. Of two scorers under one name the newer one stays. Kafka fences the older one, but aiokafka 0.14 sends no name with a
        heartbeat: it learns only that it is no member any more, and would take the name back, as would the other. So before
        it joins again, the group is asked who has the name; where that is another one, this one waits here for its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

ASK_SECONDS_MAX: Final = 5.0
_UUID_CHARACTERS: Final = 36  # a static member's id is its name, a hyphen and a UUID
_MEMBERS: Final = 5  # their place in a described group

log = structlog.get_logger("scorer.membership")


class NameTakenError(RuntimeError):
    """Another scorer has joined the group under this one's name."""


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka's class is untyped
    """Listens to rebalances. name_is_taken(): whether the group has given this scorer's name to another one.

    moved: partitions that came or went, for the loop to take out. assigned: what this scorer has now, nothing during a rebalance.
    """

    def __init__(self, name_is_taken: Callable[[], Awaitable[bool]]) -> None:
        self._name_is_taken = name_is_taken
        self._has_joined = False
        self._taken = False
        self.moved: deque[TopicPartition] = deque()
        self.assigned: frozenset[TopicPartition] = frozenset()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Note what went; called before each join, also the first."""
        self.moved.extend(revoked)
        self.assigned = frozenset()
        if self._has_joined and await self._name_is_taken():
            self._taken = True
            await asyncio.Event().wait()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Note what came."""
        self._has_joined = True
        self.moved.extend(assigned)
        self.assigned = frozenset(assigned)

    def check(self) -> None:
        """Raise NameTakenError when another scorer took the name."""
        if self._taken:
            raise NameTakenError


async def name_is_taken(consumer: AIOKafkaConsumer, bootstrap: str, group: str, name: str) -> bool:
    """Whether the group no longer knows this consumer, and has another member of its static name."""
    if consumer._coordinator.member_id:  # no public word for it; emptied when the broker does not know the member
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="scorer-membership")
    try:
        async with asyncio.timeout(ASK_SECONDS_MAX):
            await admin.start()
            answers: list[Any] = await admin.describe_consumer_groups([group])
    except (KafkaError, TimeoutError) as error:
        log.warning("the group does not say who has this scorer's name", reason=repr(error))
        return False
    finally:
        await admin.close()
    members = [member[0] for answer in answers for described in answer.groups for member in described[_MEMBERS]]
    return any(len(id_) == len(name) + 1 + _UUID_CHARACTERS and id_.startswith(f"{name}-") for id_ in members)
