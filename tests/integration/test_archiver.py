"""The archiver on a real broker: what the log says stands in the lake, once, kills included.

Rule 1. The archiver runs as its own process, as in the stack; kills are SIGKILL at moments drawn from a seed.
Rule 2. The broker may have served other tests: a test's lake begins with empty files up to where the log ends at its start.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from adapters.backends.server import Server
from adapters.kafka import dead_letter
from adapters.lake import NEVER_THERE, Lake
from fraud.dead_letters import BadMessageError, Reason
from fraud.disposition import Disposition
from fraud.features import NAMES
from fraud.packed import OriginMarks
from fraud.topics import ARCHIVED
from tests.integration.log_writer import BEGIN_MS, label, packed_vectors, transaction, vectors_of, write
from trainer.chunk import chunk_for

DEADLINE_S = 60.0
TRANSACTIONS = [transaction(i, BEGIN_MS + i * 1000) for i in range(6000)]


@pytest.fixture
def bootstrap(kafka_bootstrap: str, tmp_path: Path) -> str:
    """The session's broker; this test's lake ends where its log ends now."""
    lake = Lake(tmp_path / "lake")
    consumer = KafkaConsumer(bootstrap_servers=kafka_bootstrap)
    partitions = [TopicPartition(t.name, n) for t in ARCHIVED for n in consumer.partitions_for_topic(t.name)]
    for source, end in consumer.end_offsets(partitions).items():
        nothing = chunk_for(source.topic, 0, OriginMarks()).frame()
        if end:
            lake.write_chunk(source.topic, source.partition, (0, end), nothing, {})
    consumer.close()
    return kafka_bootstrap


class ArchiverProcess:
    """`python -m trainer archive` with small files."""

    def __init__(self, bootstrap: str, lake: Path, log: Path) -> None:
        environment = os.environ | {
            "FRAUD_KAFKA_BOOTSTRAP": bootstrap,
            "FRAUD_LAKE_DIR": str(lake),
            "FRAUD_STATE_DIR": str(lake.parent),
            "FRAUD_ARCHIVE_ROWS_MAX": "2000",
            "FRAUD_ARCHIVE_AGE_MAX_S": "0.2",
            "FRAUD_ARCHIVE_SMALL_FILES_MAX": "4",
        }
        self.log = log
        self._said_before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainer", "archive"], env=environment, stdout=output, stderr=output
            )

    def is_archiving(self) -> bool:
        """Whether this process (not one before it) has its partitions."""
        return "archiving" in self.log.read_text()[self._said_before :]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], ArchiverProcess]]:
    """Starts archivers of one lake; ends what is left of them."""
    started: list[ArchiverProcess] = []

    def archiver(bootstrap: str) -> ArchiverProcess:
        started.append(ArchiverProcess(bootstrap, tmp_path / "lake", tmp_path / "archiver.log"))
        return started[-1]

    yield archiver
    for one in started:
        if one.process.poll() is None:
            one.kill()


def rows_in(lake: Lake, topic: str) -> int:
    return sum(file.rows for file in lake.files(topic))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.05)


def test_every_topic_arrives_with_its_columns_and_vectors_keep_their_bits(
    bootstrap: str, start: Callable[[str], ArchiverProcess], tmp_path: Path
) -> None:
    some = TRANSACTIONS[:700]
    write(bootstrap, "transactions", 0, [(t.card_id.encode(), t.to_json(), []) for t in some] + [(b"c1", b"{bad", [])])
    write(bootstrap, "labels", 0, [(t.terminal_id.encode(), label(t, True).to_json(), []) for t in some[:9]])
    write(bootstrap, "features", 0, packed_vectors(some, 0))
    verdict = Disposition(some[0].transaction_id, some[0].card_id, some[0].terminal_id, BEGIN_MS, "confirmed", BEGIN_MS)
    write(bootstrap, "dispositions", 0, [(b"t0", verdict.to_json(), [])])
    letter = dead_letter(BadMessageError(Reason.NOT_JSON, "broken"), b"c1", b"{bad", ("transactions", 0, 700))
    write(bootstrap, "transactions.dlq", 0, [letter])
    lake = Lake(tmp_path / "lake")
    archiver = start(bootstrap)
    wait_until(
        lambda: rows_in(lake, "features") == 700 and rows_in(lake, "transactions.dlq") == 1, "vectors in the lake"
    )
    wait_until(lambda: rows_in(lake, "dispositions") == 1, "the verdict in the lake")
    wait_until(lambda: rows_in(lake, "transactions") == 701 and rows_in(lake, "labels") == 9, "messages in the lake")
    assert archiver.stop() == 0
    assert lake.scan("dispositions").collect()["verdict"].to_list() == ["confirmed"]
    assert set(lake.topics()) == {
        topic.name for topic in ARCHIVED if rows_in(lake, topic.name) or lake.files(topic.name)
    }
    assert not {"truth", "control"} & set(lake.topics())
    vectors = lake.scan("features").collect()
    assert (
        vectors.select(NAMES).to_numpy(order="c").view(np.uint32).tolist() == vectors_of(some).view(np.uint32).tolist()
    )
    assert vectors["transaction_id"].to_list() == [t.transaction_id for t in some]
    raw = lake.scan("transactions").collect()
    assert raw["value"].to_list()[:700] == [t.to_json() for t in some]
    assert (raw["refused"][700], raw["value"][700]) == ("NOT_JSON", b"{bad")
    assert lake.scan("labels").collect()["is_fraud"].to_list() == [True] * 9
    found = lake.scan("transactions.dlq").collect().row(0, named=True)
    assert (found["reason"], found["source_topic"], found["source_offset"], found["value"]) == (
        "NOT_JSON",
        "transactions",
        700,
        b"{bad",
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_an_archiver_killed_at_random_moments_loses_and_doubles_nothing(
    bootstrap: str, start: Callable[[str], ArchiverProcess], tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    lake = Lake(tmp_path / "lake")
    batches = packed_vectors(TRANSACTIONS, 0, rows=40)
    archiver = start(bootstrap)
    for at in range(0, len(batches), 30):
        # A stage that crashed before its watermark moved writes its last batches again.
        again = batches[max(0, at - moments.randrange(4)) : at]
        write(bootstrap, "features", 0, [*again, *batches[at : at + 30]])
        if moments.random() < 0.7:
            time.sleep(moments.random() * 2.5)  # a random moment is the point here, not a wait for something
            archiver.kill()
            archiver = start(bootstrap)
    wait_until(lambda: rows_in(lake, "features") >= len(TRANSACTIONS), "every row in the lake")
    wait_until(archiver.is_archiving, "the last archiver's assignment")
    assert archiver.stop() == 0
    stored = lake.scan("features").collect()
    assert stored["origin_offset"].to_list() == list(range(len(TRANSACTIONS)))
    assert stored.select(NAMES).to_numpy(order="c").tobytes() == vectors_of(TRANSACTIONS).tobytes()


def test_small_files_are_merged_and_still_read_once(
    bootstrap: str, start: Callable[[str], ArchiverProcess], tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "lake")
    archiver = start(bootstrap)
    batches = packed_vectors(TRANSACTIONS[:600], 0, rows=50)
    for i, batch in enumerate(batches):
        write(bootstrap, "features", 0, [batch])
        wait_until(lambda done=(i + 1) * 50: rows_in(lake, "features") == done, "the batch in the lake")  # type: ignore[misc]  # mypy cannot type a default
    assert archiver.stop() == 0
    assert len(lake.files("features")) < len(batches) - 4
    assert lake.scan("features").collect()["origin_offset"].to_list() == list(range(600))


def test_an_archiver_that_comes_late_says_in_the_lake_what_the_log_no_longer_had(
    fresh_kafka: Server, start: Callable[[str], ArchiverProcess], tmp_path: Path
) -> None:
    bootstrap, lake = fresh_kafka.address, Lake(tmp_path / "lake")
    write(bootstrap, "features", 0, packed_vectors(TRANSACTIONS[:100], 0, rows=10))
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_records({TopicPartition("features", 0): 4})
    admin.close()
    archiver = start(bootstrap)
    wait_until(lambda: rows_in(lake, "features") == 60, "what the log still has")
    assert archiver.stop() == 0
    first = lake.files("features")[0]
    assert (first.first, first.next, first.rows, first.gone) == (0, 4, 0, NEVER_THERE)


def test_records_that_the_log_lost_before_they_were_archived_end_the_archiver_by_name(
    fresh_kafka: Server, start: Callable[[str], ArchiverProcess], tmp_path: Path
) -> None:
    bootstrap, lake = fresh_kafka.address, Lake(tmp_path / "lake")
    write(bootstrap, "features", 0, packed_vectors(TRANSACTIONS[:100], 0, rows=10))
    archiver = start(bootstrap)
    wait_until(lambda: rows_in(lake, "features") == 100, "the first rows")
    assert archiver.stop() == 0
    at = lake.next_offset("features", 0)
    assert at is not None
    write(bootstrap, "features", 0, packed_vectors(TRANSACTIONS[100:200], 100, rows=10))
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_records({TopicPartition("features", 0): at + 5})
    admin.close()
    archiver = start(bootstrap)
    assert archiver.process.wait(30) == 1
    said = archiver.log.read_text()
    assert f"features/0: the log begins at offset {at + 5}, the lake ends at {at}" in said
    assert lake.next_offset("features", 0) == at


def test_a_second_archiver_of_the_same_lake_ends_at_once(
    bootstrap: str, start: Callable[[str], ArchiverProcess]
) -> None:
    first = start(bootstrap)
    wait_until(first.is_archiving, "the first archiver's assignment")
    second = start(bootstrap)
    assert second.process.wait(30) == 2
    assert first.stop() == 0
