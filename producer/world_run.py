"""A run of a world: streamed from where it stopped, and followed until the fate of every transaction is known.

Rule 1. One producer leads the simulated clock: it sets it to its own position when it starts and stops it when it ends, so the
        time of a pause is not caught up. Those that follow (`--follow`) join the clock as it is, and catch up with it.
Rule 2. Following what was sent starts before the first message and ends within a deadline.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka import KafkaProducer

from adapters.telemetry import counter, gauge
from fraud import metrics, topics
from fraud.features import FEATURE_HASH
from fraud.windows import DAY_MS
from producer.clock import MAX
from producer.outcome import Lags, Outcome, connect, end_offsets
from producer.progress import Meter
from producer.replay import Summary, Target, following
from producer.steering import Steering, clock_request
from producer.streamer import LiveKafka, Report, Sent, linger_ms_for
from producer.world_plan import WorldPlan
from producer.world_position import HEARD_TOPICS, SENT_TOPICS, WorldPositionFile, already_sent, ends_of
from producer.world_stream import LiveWorld, Progress, stream_fast

_DAYS: Final = "simulated days"


@dataclass(frozen=True, slots=True)
class WorldRun:
    """What is streamed: a plan up to until_ms, at `speed` (event time per real time, MAX: as fast as it goes).

    leads: whether this producer sets the simulated clock. transactions_per_day: about how many, for the linger.
    cards: how many the world has, for those who start a scenario in it.
    """

    plan: WorldPlan
    until_ms: int
    speed: float
    position_file: Path
    transactions_per_day: float
    cards: int
    leads: bool = True


def run_world(run: WorldRun, target: Target, follow: bool, stop: threading.Event) -> Summary:
    """Stream; with `follow`, wait until all of it is scored, dead-lettered or ignored as a duplicate.

    Raises KafkaError (of either client), StackMissingError, StalledError, WorldPositionError, NoClockError.
    """
    begin_s = time.monotonic()
    if not follow:
        sent = _send(run, target, stop)
        seconds = time.monotonic() - begin_s
        return Summary(sent, seconds, seconds, stopped=stop.is_set())
    lags = Lags(target.bootstrap, target.redis_url, FEATURE_HASH, target.partitions, target.scorer_group)
    with (
        closing(lags),
        closing(Outcome(target.bootstrap, target.partitions, lags, target.stall_seconds_max)) as outcome,
    ):
        with following(outcome):
            sent = _send(run, target, stop)
        send_seconds = time.monotonic() - begin_s
        expected = outcome.expected()
        with Meter({"scored": expected}) as meter:
            counts = outcome.wait(expected, lambda now: meter.update("scored", now.scored), stop)
        seconds = time.monotonic() - begin_s
    return Summary(sent, send_seconds, seconds, expected - sent.transactions, counts, stop.is_set())


def _send(run: WorldRun, target: Target, stop: threading.Event) -> Sent:
    file = WorldPositionFile(run.position_file)
    with closing(connect(target.bootstrap)) as consumer:
        for topic in SENT_TOPICS:
            end_offsets(consumer, topic, target.partitions)
        saved, sent = already_sent(consumer, file.load(), target.partitions)
        saved.clock_ms = run.plan.begins_after(saved.clock_ms, saved.settings)
        saved.settings = run.plan.world.settings
        progress = Progress(file, saved, sent, consumer, target.partitions)
        if run.speed != MAX:
            return _send_live(run, target, progress, stop)
        days = _days_left(run, saved.clock_ms)
        with Meter({_DAYS: days}, "days") as meter:
            report = _reporting(lambda at_ms: meter.update(_DAYS, days - _days_left(run, at_ms)))
            done = asyncio.run(
                stream_fast(target.bootstrap, target.partitions, run.plan, run.until_ms, progress, report, stop)
            )
        if not stop.is_set():
            # Whoever goes on from here goes on live: what is decided about the history counts for nothing.
            progress.position.heard = ends_of(consumer, HEARD_TOPICS, target.partitions)
            progress.save(run.until_ms - 1)
        return done


def _send_live(run: WorldRun, target: Target, progress: Progress, stop: threading.Event) -> Sent:
    position = progress.position
    _pass_over_what_was_sent(run, target, progress, stop)
    if position.mode == "fast":
        position.mode, position.live_from_ms = "live", position.clock_ms + 1
    begin_ms = max(position.clock_ms, run.plan.world.begin_ms - 1) + 1
    linger_ms = linger_ms_for(run.transactions_per_day / DAY_MS * 1000 * run.speed)
    with (
        closing(connect(target.bootstrap)) as hearing,
        closing(LiveKafka(target.bootstrap, linger_ms)) as kafka,
        closing(KafkaProducer(bootstrap_servers=target.bootstrap, acks="all")) as control,
    ):
        steering = Steering(hearing, target.partitions, position.heard)
        if run.leads:
            steering.ask(control, clock_request(run.speed, paused=False, event_time_ms=begin_ms, cards=run.cards))
        steering.now_ms()  # a clock there must be
        live = LiveWorld(run.plan, steering, progress, kafka, target.partitions)
        try:
            return live.stream(run.until_ms, _reporting(lambda _: None), stop)
        finally:
            if run.leads:
                control.send(topics.CONTROL.name, clock_request(paused=True).to_json())
                control.flush(timeout=2)


def _pass_over_what_was_sent(run: WorldRun, target: Target, progress: Progress, stop: threading.Event) -> None:
    """What a killed producer sent after its last save lies in the past: nobody waits for it again."""
    position = progress.position
    mode, live_from_ms, until_ms = (
        position.mode,
        position.live_from_ms,
        min(run.until_ms, progress.already.newest_ms + 1),
    )
    progress.is_durable = False
    if until_ms > position.clock_ms + 1:
        asyncio.run(
            stream_fast(target.bootstrap, target.partitions, run.plan, until_ms, progress, lambda _: None, stop)
        )
    progress.is_durable = True
    position.mode, position.live_from_ms = mode, live_from_ms


def _days_left(run: WorldRun, at_ms: int) -> int:
    return max(0, -(-(run.until_ms - 1 - max(at_ms, run.plan.world.begin_ms - 1)) // DAY_MS))


def _reporting(show: Callable[[int], None]) -> Report:
    """What is done at each save: metrics and progress."""
    produced = counter(metrics.PRODUCED_TOTAL)
    simulated = gauge(metrics.SIMULATED_TIME_SECONDS)
    before = Sent()

    def report(sent: Sent) -> None:
        produced.labels(topics.TRANSACTIONS.name).inc(sent.transactions - before.transactions)
        produced.labels(topics.LABELS.name).inc(sent.labels - before.labels)
        before.transactions, before.labels = sent.transactions, sent.labels
        if sent.at_ms:
            simulated.set(sent.at_ms / 1000)
            show(sent.at_ms)

    return report
