"""What a stage is handed over: next records only, and fetches whenever anything else may stand in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from faust.types import TP

from stream_features.hand_over import WAITING_BYTES_MAX, Handed, HandOver

LANE = TP("terminal-log", 0)
WRITERS = {TP("transactions", 0), TP("transactions", 1), TP("labels", 0)}


class Lane:
    """A lane and its stage: what was fetched of it, what was taken, and from where it fetches (None: it rests)."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.fetches_from: int | None = place
        self.taken: list[list[int]] = []
        self.may_take = asyncio.Event()
        self.may_take.set()

    def rest(self, tp: TP) -> bool:
        self.fetches_from = None
        return tp == LANE

    def go_on(self, tp: TP, offset: int) -> None:
        self.fetches_from = offset

    async def take(self, tp: TP, records: Sequence[Handed]) -> int:
        await self.may_take.wait()
        offsets = [record.offset for record in records]
        if offsets[0] == self.place:
            self.taken.append(offsets)
            self.place = offsets[-1] + 1
        return self.place


def made_for(lane: Lane, assigned: set[TP] = WRITERS) -> HandOver:
    hand_over = HandOver(lambda: lane, lane.take, WRITERS)
    hand_over.begin(assigned)
    return hand_over


def written(count: int, size: int = 1) -> list[Any]:
    return [(None, b"x" * size, []) for _ in range(count)]


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


async def quiet(hand_over: HandOver) -> None:
    await asyncio.gather(*hand_over._taking.values())


def test_the_next_records_are_taken_in_order_and_the_lane_rests() -> None:
    async def story() -> None:
        lane = Lane(7)
        hand_over = made_for(lane)
        hand_over.offer(LANE, 7, written(2), lane.place)
        assert lane.fetches_from is None
        await quiet(hand_over)
        hand_over.offer(LANE, 9, written(1), lane.place)
        await quiet(hand_over)
        assert (lane.taken, lane.fetches_from) == ([[7, 8], [9]], None)

    run(story())


def test_what_comes_while_the_stage_is_busy_is_taken_together() -> None:
    async def story() -> None:
        lane = Lane(0)
        hand_over = made_for(lane)
        for first in range(4):
            hand_over.offer(LANE, first, written(1), lane.place)
            await asyncio.sleep(0)  # the first one is under way
            lane.may_take.clear()
        lane.may_take.set()
        await quiet(hand_over)
        assert [offset for batch in lane.taken for offset in batch] == [0, 1, 2, 3]
        assert lane.place == 4

    run(story())


def test_a_record_of_another_writer_before_ours_makes_the_lane_fetch_where_it_stands() -> None:
    async def story() -> None:
        lane = Lane(0)
        hand_over = made_for(lane)
        hand_over.offer(LANE, 0, written(3), lane.place)
        hand_over.offer(LANE, 4, written(1), lane.place)  # 3 is somebody else's
        assert (
            lane.fetches_from == 0
        )  # where the stage is: the first three are not taken yet, and must not be overtaken
        await quiet(hand_over)
        assert lane.taken == [[0, 1, 2]]
        lane.place = 5  # both were fetched
        hand_over.offer(LANE, 5, written(1), lane.place)
        await quiet(hand_over)
        assert (lane.taken[-1], lane.fetches_from) == ([5], None)

    run(story())


def test_a_worker_beside_another_one_hands_nothing_over() -> None:
    async def story() -> None:
        lane = Lane(0)
        hand_over = made_for(lane, WRITERS - {TP("transactions", 1)})
        hand_over.offer(LANE, 0, written(1), lane.place)
        await quiet(hand_over)
        assert (lane.taken, lane.fetches_from) == ([], 0)

    run(story())


def test_a_stage_that_catches_up_is_handed_nothing_and_its_fetches_are_not_disturbed() -> None:
    async def story() -> None:
        lane = Lane(10)
        hand_over = made_for(lane)
        for first in (50, 51, 52):
            hand_over.offer(LANE, first, written(1), lane.place)
        await quiet(hand_over)
        assert (lane.taken, lane.fetches_from) == ([], 10)

    run(story())


def test_when_too_much_waits_the_rest_comes_by_fetches() -> None:
    async def story() -> None:
        lane = Lane(0)
        lane.may_take.clear()
        hand_over = made_for(lane)
        hand_over.offer(LANE, 0, written(1), lane.place)
        await asyncio.sleep(0)  # it is under way, and no longer waits
        hand_over.offer(LANE, 1, written(1, WAITING_BYTES_MAX + 1), lane.place)
        assert lane.fetches_from is None
        hand_over.offer(LANE, 2, written(1), lane.place)
        assert lane.fetches_from == 0  # where the stage is: what waits must not be overtaken by what is fetched
        hand_over.offer(LANE, 3, written(1), lane.place)
        lane.may_take.set()
        await quiet(hand_over)
        assert (lane.taken, lane.place) == ([[0], [1]], 2)

    run(story())


def test_a_lane_to_which_nothing_comes_fetches_again() -> None:
    async def story() -> None:
        lane = Lane(0)
        hand_over = made_for(lane)
        hand_over.offer(LANE, 0, written(1), lane.place)
        await quiet(hand_over)
        hand_over.look()
        assert lane.fetches_from is None  # something came since the last look
        hand_over.look()
        assert lane.fetches_from == 1

    run(story())


def test_a_stage_that_did_not_take_them_gets_them_by_fetches_from_where_it_is() -> None:
    async def story() -> None:
        lane = Lane(4)
        hand_over = made_for(lane)
        lane.may_take.clear()
        hand_over.offer(LANE, 4, written(2), lane.place)
        lane.place = 2  # another stage of the same partition, after a rebalance
        lane.may_take.set()
        await quiet(hand_over)
        assert (lane.taken, lane.fetches_from) == ([], 2)

    run(story())


def test_after_a_rebalance_nothing_waits_and_every_lane_fetches() -> None:
    async def story() -> None:
        lane = Lane(0)
        hand_over = made_for(lane)
        lane.may_take.clear()
        hand_over.offer(LANE, 0, written(1), lane.place)
        await asyncio.sleep(0)
        hand_over.offer(LANE, 1, written(1), lane.place)
        hand_over.begin(WRITERS)
        assert lane.fetches_from is not None
        lane.may_take.set()
        await quiet(hand_over)
        assert lane.taken == [[0]]

    run(story())
