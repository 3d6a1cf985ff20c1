"""The scorer as a process on a real broker: killed, restarted, given models while it works.

Rule 1. Every test counts from the ends that it found, with origin partitions of its own: what others left does not matter.
Rule 2. What is asked of the logs is what any reader sees: the first row of each origin counts.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from adapters.backends import Server
from adapters.model_store import ModelStore
from adapters.ports import free_ports
from fraud.alert import Alert, parse_alert
from fraud.decision import APPROVE
from fraud.features import FEATURE_HASH
from fraud.packed import SCORES, Batch, OriginMarks, unpack
from tests.scoring.packed_vectors import packed_rows
from tests.scoring.published_models import point_to, publish

WAIT_S = 90.0
Origin = tuple[int, int]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:.0f} s"
        time.sleep(0.05)


class Stage:
    """One test's view of the broker: writes `features`, starts scorers of a group of its own, reads what they wrote."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.models = folder / "models"
        self.models.mkdir()
        self.origin_partition = random.randrange(1000, 2**30)
        self.group = f"scorer-test-{self.origin_partition}"
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)
        self.reader = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        self.partitions = len(self.reader.partitions_for_topic("features") or {0})
        read = [TopicPartition(topic, p) for topic in ("scores", "alerts") for p in range(self.partitions)]
        read.append(TopicPartition("features.dlq", 0))
        self.reader.assign(read)
        for tp, end in self.reader.end_offsets(read).items():
            self.reader.seek(tp, end)
        self.scores: list[tuple[int, Batch]] = []
        self.alerts: list[Alert] = []
        self.dead: list[bytes] = []
        self._begin_at_the_end()

    def _begin_at_the_end(self) -> None:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit=False)
        tps = [TopicPartition("features", p) for p in range(self.partitions)]
        consumer.assign(tps)
        consumer.commit({tp: OffsetAndMetadata(end, "", -1) for tp, end in consumer.end_offsets(tps).items()})
        consumer.close()

    def start(self, scorer_id: str = "0", **settings: str) -> subprocess.Popen[bytes]:
        """Start a scorer; its log goes to a file of the test's folder."""
        environment = {
            **os.environ,
            "FRAUD_KAFKA_BOOTSTRAP": self.bootstrap,
            "FRAUD_PARTITIONS": str(self.partitions),
            "FRAUD_STATE_DIR": str(self.folder),
            "FRAUD_MODELS_DIR": str(self.models),
            "FRAUD_SCORER_GROUP": self.group,
            "FRAUD_SCORER_ID": scorer_id,
            **settings,
        }
        with (self.folder / f"scorer-{scorer_id}.log").open("ab") as output:
            return subprocess.Popen([sys.executable, "-m", "scorer"], env=environment, stdout=output, stderr=output)

    def send(self, origins: range, raw: bytes | None = None) -> None:
        """Write one record of vectors; an origin's partition of `features` follows from its range."""
        value = packed_rows(origins, self.origin_partition) if raw is None else raw
        self.producer.send("features", value, partition=origins.start % self.partitions)

    def read(self) -> Stage:
        """Take in what was written since the last call; return self."""
        for tp, records in self.reader.poll(timeout_ms=200).items():
            for record in records:
                if tp.topic == "scores":
                    batch = unpack(record.value, (SCORES,))
                    mine = batch.take(batch.array("origin_partition") == self.origin_partition)
                    self.scores += [(tp.partition, mine)] if mine.rows else []
                elif tp.topic == "alerts":
                    alert = parse_alert(record.value)
                    self.alerts += [alert] if alert.origin_partition == self.origin_partition else []
                else:
                    self.dead.append(record.value)
        return self

    def challengers(self) -> list[str | None]:
        """The version that scored beside, by record; None: nobody."""
        return [batch.meta["challenger_version"] for _, batch in self.read().scores]

    def scored(self) -> dict[Origin, tuple[float, int]]:
        """Score and decision by origin, the first row of each."""
        self.read()
        marks = {p: OriginMarks() for p in range(self.partitions)}
        rows: dict[Origin, tuple[float, int]] = {}
        for partition, batch in self.scores:
            first = marks[partition].fresh(batch)
            origins = zip(first.array("origin_partition").tolist(), first.array("origin_offset").tolist(), strict=True)
            verdicts = zip(first.array("score").tolist(), first.array("decision").tolist(), strict=True)
            for origin, verdict in zip(origins, verdicts, strict=True):
                assert origin not in rows, f"{origin} stands in two partitions"
                rows[origin] = verdict
        return rows

    def scored_offsets(self) -> set[int]:
        return {offset for _, offset in self.scored()}

    def rows_written(self) -> int:
        return sum(batch.rows for _, batch in self.scores)

    def versions(self) -> list[str]:
        """Model versions in the order of the scores records."""
        self.read()
        return [str(batch.meta["model_version"]) for _, batch in self.scores]

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("scorer-*.log")))

    def close(self) -> None:
        self.producer.close(timeout=5)
        self.reader.close()


@pytest.fixture
def stage(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(kafka_bootstrap, tmp_path)
    yield made
    made.close()


@contextmanager
def running(stage: Stage, scorer_id: str = "0", **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A scorer that is ended with the block, however the block ends."""
    process = stage.start(scorer_id, **settings)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def fetched(port: int, path: str) -> tuple[int, str]:
    """Status and body of what a scorer's metrics port answers; 0 where nothing does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def check_alerts_are_the_rows_that_were_not_approved(stage: Stage, scored: dict[Origin, tuple[float, int]]) -> None:
    expected = {origin for origin, (_, decision) in scored.items() if decision != APPROVE}

    def told() -> set[Origin]:
        stage.read()
        return {(a.origin_partition, a.origin_offset) for a in stage.alerts}

    until(lambda: told() >= expected, "alerts")
    assert told() == expected
    for alert in stage.alerts:
        assert alert.score == scored[alert.origin_partition, alert.origin_offset][0]


def test_killed_at_random_moments_every_transaction_is_scored_once_and_alerts_are_the_rows_not_approved(
    stage: Stage,
) -> None:
    records, rows = 240, 25
    rng = random.Random(4)
    sent = 0
    few = {"FRAUD_POLL_RECORDS_MAX": "3"}  # many small batches, so that a kill falls between two of them
    process = stage.start(**few)
    try:
        for _ in range(5):
            upto = sent + records // 5
            for i in range(sent, upto):
                origins = range(i * rows, (i + 1) * rows)
                stage.send(origins)
                if rng.random() < 0.1:
                    stage.send(origins)  # as a stage that crashed before its watermark writes again
            sent = upto
            target = (sent - rng.randrange(1, 40)) * rows
            until(lambda target=target: len(stage.scored()) >= target, "scores before the kill")  # type: ignore[misc]  # mypy cannot infer the default
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            process = stage.start(**few)
        expected = set(range(records * rows))
        until(lambda: stage.scored_offsets() >= expected, "scores after the last restart")
    finally:
        process.kill()
        process.wait(10)
    scored = stage.scored()
    assert {offset for _, offset in scored} == expected
    assert stage.rows_written() == len(expected), "the marks let a row pass twice"
    assert sum(decision != APPROVE for _, decision in scored.values()) == len(expected) // 3
    check_alerts_are_the_rows_that_were_not_approved(stage, scored)


def test_models_take_over_while_rows_stream_and_a_damaged_one_does_not(stage: Stage) -> None:
    with running(stage) as process:
        sent = 0

        def fed(condition: Callable[[], bool], what: str) -> None:
            nonlocal sent

            def step() -> bool:
                nonlocal sent
                stage.send(range(sent * 10, sent * 10 + 10))
                sent += 1
                return condition()

            until(step, what)

        fed(lambda: "rules" in stage.versions(), "scores by rules")
        first, second = publish(stage.models, 3), publish(stage.models, 4)
        point_to(stage.models, first)
        fed(lambda: first in stage.versions(), "scores by the first model")
        whole = (stage.models / second / "model.ubj").read_bytes()
        (stage.models / second / "model.ubj").write_bytes(whole[:-1])
        point_to(stage.models, second)
        fed(lambda: "model refused" in stage.logs(), "the refusal")
        fed(lambda: stage.versions().count(first) > 5, "scores by the first model after the refusal")
        assert second not in stage.versions()
        (stage.models / second / "model.ubj").write_bytes(whole)
        third = publish(stage.models, 5)
        store = ModelStore(stage.models)
        store.promote(third)
        fed(lambda: third in stage.versions(), "scores by the third model")
        store.shadow(second)
        fed(lambda: second in stage.challengers(), "scores of the challenger beside those of the champion")
        store.shadow(None)
        fed(lambda: stage.challengers()[-1] is None, "scores without it, once it is gone")
        expected = set(range(sent * 10))
        until(lambda: stage.scored_offsets() >= expected, "all scores")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    for _, batch in stage.scores:
        beside = np.isfinite(batch.array("challenger_score"))
        assert set(beside.tolist()) == {batch.meta["challenger_version"] is not None}
    assert second not in stage.versions(), "it decides nothing"
    scored = stage.scored()
    assert {offset for _, offset in scored} == expected
    check_alerts_are_the_rows_that_were_not_approved(stage, scored)
    by_model = [a for a in stage.alerts if a.model_version == third]
    assert by_model
    assert all(a.reason_codes[0] == "CARD_COUNT_1H" for a in by_model)
    assert all("RULE_CARD_VELOCITY_1H" in a.reason_codes for a in by_model)


def test_a_bad_record_is_a_dead_letter_and_health_and_metrics_tell_what_happens(stage: Stage) -> None:
    (port,) = free_ports(1)
    with running(stage, FRAUD_METRICS_PORT=str(port)) as process:
        until(lambda: fetched(port, "/healthz")[0] == 200, "health")
        bad = f"no batch {stage.origin_partition}".encode()
        stage.send(range(10))
        stage.send(range(10), bad)
        stage.send(range(10, 20))
        until(lambda: stage.scored_offsets() >= set(range(20)), "scores around the bad record")
        until(lambda: bad in stage.read().dead, "the dead letter")
        metrics = fetched(port, "/metrics")[1]
        assert 'fraud_transactions_total{outcome="accepted",stage="scorer"} 20.0' in metrics
        assert 'fraud_dead_letters_total{reason="PACKED_INVALID",topic="features"} 1.0' in metrics
        assert 'fraud_scores_total{decision="review"} 7.0' in metrics
        assert 'fraud_model_info{version="rules"} 1.0' in metrics
        assert "fraud_event_to_score_seconds_count 20.0" in metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert "stopped" in stage.logs()


def test_a_second_scorer_takes_over_what_the_killed_first_one_had(stage: Stage) -> None:
    with running(stage, "a") as first:
        for i in range(40):
            stage.send(range(i * 5, i * 5 + 5))
        until(lambda: stage.scored_offsets() >= set(range(200)), "scores by the first")
        with running(stage, "b"):
            first.kill()
            for i in range(40, 80):
                stage.send(range(i * 5, i * 5 + 5))
            until(lambda: stage.scored_offsets() >= set(range(400)), "scores by the second")
    scored = stage.scored()
    assert stage.rows_written() == len(scored) == 400
    check_alerts_are_the_rows_that_were_not_approved(stage, scored)


def test_of_two_scorers_under_one_name_the_older_one_ends_with_2_and_names_the_setting(stage: Stage) -> None:
    with running(stage) as older:
        stage.send(range(5))
        until(lambda: stage.scored_offsets() >= set(range(5)), "scores by the older one")
        with running(stage) as newer:
            assert older.wait(WAIT_S) == 2
            stage.send(range(5, 10))
            until(lambda: stage.scored_offsets() >= set(range(10)), "scores by the newer one")
            assert newer.poll() is None, stage.logs()
    assert "another scorer runs with FRAUD_SCORER_ID=0" in stage.logs()


def test_while_the_broker_is_away_the_scorer_waits_and_then_goes_on_where_it_was(
    fresh_kafka: Server, tmp_path: Path
) -> None:
    stage = Stage(fresh_kafka.address, tmp_path)
    with running(stage, FRAUD_POLL_RECORDS_MAX="3") as process:
        for i in range(100):
            stage.send(range(i * 10, i * 10 + 10))
        until(lambda: len(stage.scored()) >= 100, "scores before the kill")
        fresh_kafka.kill()
        fresh_kafka.start()
        for i in range(100, 120):
            stage.send(range(i * 10, i * 10 + 10))
        until(lambda: stage.scored_offsets() >= set(range(1200)), "scores after the broker's return")
        assert process.poll() is None, stage.logs()
    scored = stage.scored()
    assert stage.rows_written() == len(scored) == 1200
    check_alerts_are_the_rows_that_were_not_approved(stage, scored)
    stage.close()


def test_a_broker_that_stays_away_ends_the_scorer_with_70_and_one_that_is_told_to_stop_with_0(
    fresh_kafka: Server, tmp_path: Path
) -> None:
    stage = Stage(fresh_kafka.address, tmp_path)
    away = {"FRAUD_KAFKA_AWAY_SECONDS_MAX": "4", "FRAUD_BATCH_PATH": "false"}
    ports = free_ports(2)
    other_group = {"FRAUD_SCORER_GROUP": f"{stage.group}-beside"}
    with (
        running(stage, "idle", FRAUD_METRICS_PORT=str(ports[0]), **away) as idle,
        running(stage, "told", FRAUD_METRICS_PORT=str(ports[1]), **other_group) as told,
    ):
        until(lambda: {fetched(port, "/healthz")[0] for port in ports} == {200}, "two scorers at work")
        fresh_kafka.kill()
        told.send_signal(signal.SIGTERM)
        with running(stage, "late", **away) as late:
            assert [process.wait(WAIT_S) for process in (told, idle, late)] == [0, 70, 70]
    stage.close()


def test_a_flood_and_vectors_of_other_features_end_the_scorer_with_2_and_say_why(
    fresh_kafka: Server, redis_url: str, tmp_path: Path
) -> None:
    stage = Stage(fresh_kafka.address, tmp_path)
    with running(stage, FRAUD_DEAD_LETTER_RECORDS_MIN="20") as process:
        for i in range(30):
            stage.send(range(i, i + 1), b"no batch")
        assert process.wait(WAIT_S) == 2
    assert "the newest" in stage.logs()
    stage.close()
    (tmp_path / "later").mkdir()
    later = Stage(fresh_kafka.address, tmp_path / "later")
    with running(later, FRAUD_REDIS_URL=redis_url) as process:  # which says whether those features are retired
        later.send(range(1), packed_rows(range(1), meta={"feature_hash": "aaaaaaaaaaaa"}))
        assert process.wait(WAIT_S) == 2
    assert "aaaaaaaaaaaa" in later.logs()
    assert FEATURE_HASH in later.logs()
    assert later.scored() == {}
    later.close()
