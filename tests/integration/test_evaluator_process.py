"""The evaluator as a process on a real broker: killed at random moments, its tables are those of one clean run.

Rule 1. Kills are SIGKILL at moments drawn from a seed; records are written again as a crashed scorer would.
Rule 2. What must stand in the tables is counted from the written rows, not by the evaluator's own code.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from adapters.kafka_admin import ensure_topics
from adapters.ports import free_ports
from fraud.labels import Label
from monitoring.evaluation_store import SCORE, TABLES, VERSION, EvaluationStore, key_of
from monitoring.journal import Journal, Source, open_for_reading
from tests.conftest import own_server
from tests.integration.log_writer import write
from tests.scoring.scored_log import labels, rows, score_records, truths

PARTITIONS = 2
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker with two partitions of each topic."""
    with own_server("kafka", tmp_path_factory.mktemp("kafka")) as server:
        ensure_topics(server.address, PARTITIONS)
        yield server.address


class Process:
    """`python -m monitoring evaluator`."""

    def __init__(self, bootstrap: str, folder: Path, port: int = 0) -> None:
        self._environment = {
            **os.environ,
            "FRAUD_KAFKA_BOOTSTRAP": bootstrap,
            "FRAUD_PARTITIONS": str(PARTITIONS),
            "FRAUD_STATE_DIR": str(folder),
            "FRAUD_EVALUATE_EVERY_S": "0.3",
            "FRAUD_METRICS_PORT": str(port),
        }
        self.log = folder / "evaluator.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monitoring", "evaluator"], env=self._environment, stdout=output, stderr=output
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "monitoring", *arguments],
            check=False, env=self._environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip


def until(condition: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {DEADLINE_S:.0f} s\n{log.read_text()[-3000:]}"
        time.sleep(0.05)


def read_up_to(path: Path) -> dict[tuple[str, int], int]:
    """Offsets that count, by topic and partition."""
    # The file, and then its tables, are just being made.
    with suppress(FileNotFoundError, sqlite3.OperationalError), open_for_reading(path) as db:
        return {(t, p): n for t, p, n in db.execute("SELECT * FROM position")}
    return {}


def test_killed_at_random_moments_every_score_and_label_counts_once(bootstrap: str, tmp_path: Path) -> None:
    made = rows(12_000)
    records = [(None, raw, []) for raw in score_records(made)]
    told = labels(made)
    spoken = [(label.terminal_id.encode(), label.to_json(), []) for label in told]
    dice = random.Random(7)
    (port,) = free_ports(1)
    evaluator = Process(bootstrap, tmp_path, port)
    path = tmp_path / "monitoring" / "evaluation.sqlite"
    try:
        write(bootstrap, "truth", 0, [(None, truth.to_json(), []) for truth in truths(made)])
        parts = 6
        for i in range(parts):
            lot = slice(i * len(records) // parts, (i + 1) * len(records) // parts)
            write(bootstrap, "scores", 1, records[lot])
            write(bootstrap, "labels", 0, spoken[i * len(spoken) // parts : (i + 1) * len(spoken) // parts])
            goal = dice.randrange(lot.start, lot.stop)
            until(lambda goal=goal: read_up_to(path).get(("scores", 1), 0) >= goal, "progress", evaluator.log)  # type: ignore[misc]  # mypy cannot infer the default
            time.sleep(dice.random() / 2)  # anywhere between two commits
            evaluator.kill()
            evaluator.start()
        ends = {("scores", 1): len(records), ("labels", 0): len(spoken)}
        until(lambda: ends.items() <= read_up_to(path).items(), "the end of the logs", evaluator.log)
        until(lambda: 'measure="ap"' in metrics_of(port), "the evaluation in the metrics", evaluator.log)
        shown = metrics_of(port)
        evaluator.process.send_signal(signal.SIGTERM)
        assert evaluator.process.wait(10) == 0
        told_by_command = json.loads(evaluator.command("paths", "--json").stdout)
    finally:
        evaluator.kill()
    check_tables(path, made, told)
    assert told_by_command == clean_run(tmp_path / "clean", made, told)
    assert 'fraud_delivered_quality{measure="ap",path="streaming",version="20180416T000000-bbbbbb"}' in shown
    assert 'fraud_scenario_recall{path="streaming",scenario="leaked_card"' in shown


def metrics_of(port: int) -> str:
    url = f"http://127.0.0.1:{port}/metrics"
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
    return ""


def check_tables(path: Path, made: list, told: list[Label]) -> None:  # type: ignore[type-arg]
    """Every row that is young enough to be kept stands once, with its newest label."""
    with open_for_reading(path) as db:
        blocks = db.execute("SELECT scores FROM block").fetchall()
        stored = np.concatenate([np.frombuffer(scores, SCORE) for (scores,) in blocks])
        verdicts = dict(db.execute("SELECT transaction_key, is_fraud FROM label"))
    oldest = int(stored["occurred_at_ms"].min())
    kept = [r for r in made if r.at_ms >= oldest]
    assert len(kept) > len(made) // 2
    columns = ("origin_offset", "score", "amount_minor", "decision")
    assert sorted(zip(*(stored[name].tolist() for name in columns), strict=True)) == [
        (r.offset, r.score, r.amount, r.decision) for r in kept
    ]
    newest = {key_of(label.card_id, label.transaction_id): int(label.is_fraud) for label in told}
    assert {k: v for k, v in newest.items() if k in verdicts} == verdicts
    assert set(verdicts) >= {
        key_of(label.card_id, label.transaction_id) for label in told if label.occurred_at_ms >= oldest
    }


def clean_run(folder: Path, made: list, told: list[Label]) -> dict:  # type: ignore[type-arg]
    """What `paths --json` says over tables that were filled once, each row by itself."""
    from fraud.packed import SCORES, unpack
    from tests.scoring.scored_log import packed

    folder.mkdir()
    journal = Journal(folder / "monitoring" / "evaluation.sqlite", TABLES, VERSION)
    store = EvaluationStore(journal)
    store.add_labels(told)
    store.add_truth(truths(made))
    for row in made:
        store.add_scores(1, unpack(packed([row]), (SCORES,)))
    journal.read_up_to(Source("scores", 1), 1)
    journal.commit()
    journal.close()
    environment = {**os.environ, "FRAUD_STATE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "monitoring", "paths", "--json"],
        check=True, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    found: dict = json.loads(done.stdout)  # type: ignore[type-arg]
    assert found["delivered"], "nothing was evaluated"
    return found


def test_a_journal_of_another_kafka_ends_the_evaluator_with_2_and_its_remedy(bootstrap: str, tmp_path: Path) -> None:
    path = tmp_path / "monitoring" / "evaluation.sqlite"
    journal = Journal(path, TABLES, VERSION)
    journal.read_up_to(Source("labels", 1), 10**9)
    journal.commit()
    journal.close()
    evaluator = Process(bootstrap, tmp_path)
    try:
        assert evaluator.process.wait(60) == 2
    finally:
        evaluator.kill()
    assert "belongs to another Kafka; delete the file" in evaluator.log.read_text()


def test_a_second_evaluator_of_one_folder_is_refused(bootstrap: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "monitoring" / "evaluation.sqlite", TABLES, VERSION)
    evaluator = Process(bootstrap, tmp_path)
    try:
        assert evaluator.process.wait(60) == 2
    finally:
        evaluator.kill()
        journal.close()
    assert "another process writes" in evaluator.log.read_text()
