"""A world streamed with stops and kills: transactions, truth and labels once each, in the order of the plan.

Rule 1. The world is a small one (tests/world_rows.py), so that what must stand in the log can be said row by row.
Rule 2. A kill is a send that raises: nothing is flushed, nothing is saved, as when the process is gone. Its moment is
        drawn from a stated seed.
Rule 3. The negative control: a stream that goes on from its position alone, without reading the log, is caught.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from kafka import KafkaProducer

from adapters.backends import Server
from fraud import topics
from fraud.alert import Alert
from fraud.control import StartScenario, StopScenario
from fraud.disposition import Disposition
from fraud.simulation import ClockState
from fraud.transaction import parse_transaction
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS
from producer.outcome import connect
from producer.steering import Steering, clock_request
from producer.streamer import LiveKafka, Sent
from producer.world_plan import Share, WorldPlan
from producer.world_position import AlreadySent, WorldPositionFile, already_sent, ends_of, read_between
from producer.world_stream import LiveWorld, Progress, stream_fast
from tests.integration.producer_runs import until
from tests.world_rows import BEGIN_MS, SOON, SmallWorld, late_and_twice


class Killed(Exception):
    """The process is gone."""


class DyingKafka(LiveKafka):
    """Dies at a stated send."""

    def __init__(self, bootstrap: str, sends: int | None) -> None:
        super().__init__(bootstrap, 0)
        self._left = sends

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed
        super().send(topic, partition, key, value)


class Streams:
    """A world's stream into a broker, begun again and again."""

    def __init__(self, bootstrap: str, path: Path, share: Share | None = None, reads_log: bool = True) -> None:
        self.bootstrap = bootstrap
        self.plan = WorldPlan(SmallWorld(), SOON, late_and_twice, share)
        self.end_ms = BEGIN_MS + 2 * DAY_MS
        self._file = WorldPositionFile(path)
        self._reads_log = reads_log

    def progress(self, consumer: Any) -> Progress:
        saved, sent = already_sent(consumer, self._file.load(), 1)
        return Progress(self._file, saved, sent if self._reads_log else AlreadySent(), consumer, 1)

    def fast(self, until_ms: int, pieces: int | None = None) -> Sent:
        """Stream fast; die after so many pieces, before their save."""
        left = [pieces]

        def report(sent: Sent) -> None:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed

        with closing(connect(self.bootstrap)) as consumer:
            return asyncio.run(
                stream_fast(self.bootstrap, 1, self.plan, until_ms, self.progress(consumer), report, threading.Event())
            )

    def live(self, speed: float, until_ms: int, sends: int | None = None, stop: threading.Event | None = None) -> Sent:
        """Stream live; die at a stated send."""
        with (
            closing(connect(self.bootstrap)) as consumer,
            closing(connect(self.bootstrap)) as hearing,
            closing(KafkaProducer(bootstrap_servers=self.bootstrap)) as control,
            closing(DyingKafka(self.bootstrap, sends)) as kafka,
        ):
            progress = self.progress(consumer)
            progress.position.mode = "live"
            steering = Steering(hearing, 1, progress.position.heard)
            begin_ms = max(progress.position.clock_ms, BEGIN_MS - 1) + 1
            steering.ask(control, clock_request(1.0, paused=False, event_time_ms=begin_ms))
            # Above the speed that people may ask for: an hour of event time in some milliseconds.
            steering.simulation.clock = ClockState(begin_ms, time.time_ns() // 1_000_000, speed, paused=False)
            return LiveWorld(self.plan, steering, progress, kafka, 1).stream(
                until_ms, lambda _: None, stop or threading.Event()
            )


def logged(bootstrap: str, topic: topics.Topic) -> list[dict[str, Any]]:
    """Every message of a topic with one partition."""
    with closing(connect(bootstrap)) as consumer:
        ends = ends_of(consumer, [topic], 1)
        return [msgspec.json.decode(value) for _, value in read_between(consumer, {}, ends)]


def ids(bootstrap: str, topic: topics.Topic) -> list[str]:
    return [message["transaction_id"] for message in logged(bootstrap, topic)]


def planned(plan: WorldPlan, until_ms: int) -> pl.DataFrame:
    return pl.concat(plan.pieces(-1, until_ms))


def differences(streams: Streams, until_ms: int) -> list[str]:
    """What stands in the log otherwise than planned."""
    rows = planned(streams.plan, until_ms)
    wrong = []
    if ids(streams.bootstrap, topics.TRANSACTIONS) != rows["transaction_id"].to_list():
        wrong.append("transactions")
    frauds = rows.filter((pl.col("scenario") != "") & ~pl.col("is_copy"))["transaction_id"]
    if sorted(ids(streams.bootstrap, topics.TRUTH)) != sorted(frauds):
        wrong.append("truth")
    known = rows.filter((pl.col("source") > 0) & ~pl.col("is_copy") & (pl.col("known_at_ms") < until_ms))
    if sorted(ids(streams.bootstrap, topics.LABELS)) != sorted(known["transaction_id"]):
        wrong.append("labels")
    return wrong


@pytest.fixture
def streams(fresh_kafka: Server, tmp_path: Path) -> Streams:
    return Streams(fresh_kafka.address, tmp_path / "position")


def killed_at_random(streams: Streams, until_ms: int) -> Iterator[None]:
    """Fast and live runs that die, then one that ends."""
    generator = random.Random(11)
    for _ in range(3):
        with pytest.raises(Killed):
            streams.fast(until_ms, pieces=generator.randrange(1, 5))
        yield
    for _ in range(4):
        with pytest.raises(Killed):
            streams.live(400_000, until_ms, sends=generator.randrange(1, 700))
        yield


def test_kills_neither_lose_nor_double_a_transaction_its_truth_or_its_label(streams: Streams):
    for _ in killed_at_random(streams, streams.end_ms):
        pass
    streams.live(10_000_000, streams.end_ms)
    assert differences(streams, streams.end_ms) == []


def test_negative_control_a_position_without_the_log_sends_again(fresh_kafka: Server, tmp_path: Path):
    streams = Streams(fresh_kafka.address, tmp_path / "position", reads_log=False)
    for _ in killed_at_random(streams, streams.end_ms):
        pass
    streams.live(10_000_000, streams.end_ms)
    assert "transactions" in differences(streams, streams.end_ms)


def test_every_message_is_one_that_the_readers_accept(streams: Streams):
    streams.fast(BEGIN_MS + 6 * HOUR_MS)
    streams.live(5_000_000, BEGIN_MS + 12 * HOUR_MS)
    with closing(connect(streams.bootstrap)) as consumer:
        records = list(read_between(consumer, {}, ends_of(consumer, [topics.TRANSACTIONS], 1)))
    for _, value in records:
        transaction = parse_transaction(value, msgspec.json.decode(value)["card_id"].encode())
        assert transaction.schema_version == 2 and transaction.occurred_at_ms <= transaction.sent_at_ms
    assert len(records) == planned(streams.plan, BEGIN_MS + 12 * HOUR_MS).height


def test_two_shares_send_together_what_one_producer_sends(fresh_kafka: Server, tmp_path: Path):
    until_ms = BEGIN_MS + 8 * HOUR_MS
    for index in range(2):
        Streams(fresh_kafka.address, tmp_path / f"position-{index}", Share(index, 2)).fast(until_ms)
    whole = planned(WorldPlan(SmallWorld(), SOON, late_and_twice), until_ms)["transaction_id"]
    assert Counter(ids(fresh_kafka.address, topics.TRANSACTIONS)) == Counter(whole)


def test_another_log_begins_at_the_beginning_and_a_lost_position_sends_nothing_again(streams: Streams, tmp_path: Path):
    until_ms = BEGIN_MS + 5 * HOUR_MS
    streams.fast(until_ms)
    sent = len(ids(streams.bootstrap, topics.TRANSACTIONS))
    (tmp_path / "position").unlink()
    assert streams.fast(until_ms).transactions == 0
    assert len(ids(streams.bootstrap, topics.TRANSACTIONS)) == sent


# -- live ---------------------------------------------------------------------------------------------------------------


class Live:
    """A live stream in a thread, ended at exit."""

    def __init__(self, streams: Streams, speed: float) -> None:
        self._stop = threading.Event()
        self._streams = streams
        self._speed = speed
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._streams.live(self._speed, self._streams.end_ms, stop=self._stop)
        except BaseException as error:
            self._failed.append(error)

    def __enter__(self) -> Live:
        self._thread.start()
        until(lambda: bool(logged(self._streams.bootstrap, topics.CONTROL)) or bool(self._failed), "the clock")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._failed and not self._thread.is_alive()


def write(bootstrap: str, topic: topics.Topic, message: Any) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        producer.send(topic.name, message.to_json(), partition=0).get(timeout=30)


def alert_of(row: dict[str, Any], decision: str) -> Alert:
    return Alert(
        alert_id=row["transaction_id"], transaction_id=row["transaction_id"], card_id=row["card_id"],
        terminal_id=row["terminal_id"], amount_minor=1, currency="EUR", occurred_at_ms=row["occurred_at_ms"], score=0.9,
        decision=decision, reason_codes=(), model_version="rules", scored_at_ms=BEGIN_MS, origin_partition=0, origin_offset=0,
    )  # fmt: skip


def test_a_scenario_that_a_person_starts_is_mixed_in_with_its_truth_and_stops_when_asked(streams: Streams):
    address = streams.bootstrap
    with Live(streams, speed=300):
        write(address, topics.CONTROL, StartScenario("run-a", BEGIN_MS, "card-testing", 5, 60.0))
        write(address, topics.CONTROL, StartScenario("run-b", BEGIN_MS, "card-testing", 101, 60.0))
        until(lambda: len([i for i in ids(address, topics.TRANSACTIONS) if i.startswith("run-a-")]) >= 5, "the run")
        write(address, topics.CONTROL, StopScenario("stop-a", BEGIN_MS, "run-a"))
        until(lambda: len(logged(address, topics.CONTROL)) >= 4, "the stop")
        before = logged(address, topics.TRANSACTIONS)[-1]["occurred_at_ms"]
        until(
            lambda: logged(address, topics.TRANSACTIONS)[-1]["occurred_at_ms"] > before + 3 * MINUTE_MS, "time to pass"
        )
        stopped = [i for i in ids(address, topics.TRANSACTIONS) if i.startswith("run-")]
    assert all(i.startswith("run-a-") for i in stopped) and 5 <= len(stopped) < 40
    truths = [t for t in logged(address, topics.TRUTH) if t["run_id"] == "run-a"]
    assert sorted(t["transaction_id"] for t in truths) == sorted(stopped)


def test_decisions_and_verdicts_become_labels_and_a_decline_silences_the_report(streams: Streams):
    address = streams.bootstrap
    rows = planned(streams.plan, BEGIN_MS + 3 * HOUR_MS).filter(~pl.col("is_copy")).to_dicts()
    reported = [r for r in rows if r["source"] and r["known_at_ms"] > r["clock_ms"] + 2 * HOUR_MS][:4]
    silent = [r for r in rows if not r["source"] and not r["scenario"]][:3]
    with Live(streams, speed=20_000):
        for row in reported[:2]:
            write(address, topics.ALERTS, alert_of(row, "decline"))
        write(address, topics.ALERTS, alert_of(silent[0], "review"))
        write(address, topics.DISPOSITIONS, verdict_of(silent[1], "confirmed"))
        known_ms = max(row["known_at_ms"] for row in reported)
        until(
            lambda: logged(address, topics.TRANSACTIONS)[-1]["occurred_at_ms"] > max(known_ms, BEGIN_MS + DAY_MS),
            "labels",
        )
    labels = {label["transaction_id"]: label for label in logged(address, topics.LABELS)}
    assert not labels.keys() & {row["transaction_id"] for row in reported[:2]}
    assert labels.keys() >= {row["transaction_id"] for row in reported[2:]}
    assert labels[silent[0]["transaction_id"]]["source"] == "analyst"
    assert labels[silent[1]["transaction_id"]] | {"sent_at_ms": 0, "known_at_ms": 0} == {
        "transaction_id": silent[1]["transaction_id"], "card_id": silent[1]["card_id"], "terminal_id": silent[1]["terminal_id"],
        "occurred_at_ms": silent[1]["occurred_at_ms"], "is_fraud": True, "source": "analyst", "schema_version": 1,
        "sent_at_ms": 0, "known_at_ms": 0,
    }  # fmt: skip
    assert silent[2]["transaction_id"] not in labels


def verdict_of(row: dict[str, Any], what: str) -> Disposition:
    return Disposition(row["transaction_id"], row["card_id"], row["terminal_id"], row["occurred_at_ms"], what, BEGIN_MS)


def test_a_paused_world_stands_still_and_goes_on_at_another_speed(streams: Streams):
    address = streams.bootstrap

    def newest() -> int:
        return logged(address, topics.TRANSACTIONS)[-1]["occurred_at_ms"]

    with Live(streams, speed=1000):
        until(lambda: bool(ids(address, topics.TRANSACTIONS)), "a first transaction")
        write(address, topics.CONTROL, clock_request(paused=True))
        with closing(connect(address)) as hearing:
            steering = Steering(hearing, 1, {})
            steering._catch_up(lambda: steering.clock.paused)
        until(lambda: still(newest), "a standstill")
        stood = newest()
        write(address, topics.CONTROL, clock_request(speed=1440, paused=False))
        until(lambda: newest() > stood + HOUR_MS, "the next hour")


def still(reading: Any) -> bool:
    """Whether ten readings in a row are equal."""
    return len({reading() for _ in range(10)}) == 1
