"""What the console's tests look at: real topics of a real broker, a real registry, a real lake and real journals, small.

Rule 1. Everything is a function of the seed and of NOW_MS; only wall times of the broker differ between two runs.
Rule 2. Records are made by the code that makes them in the stack: messages by their structs, the lake by the archiver's
        chunks, journals by the watchers' stores.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import redis

from adapters.kafka import Record
from adapters.lake import Lake
from adapters.model_store import ModelStore
from fraud import packed, topics
from fraud.alert import Alert
from fraud.control import SetClock, StartScenario
from fraud.drift import SCORE, Alarm, Window, judge
from fraud.features import FEATURE_HASH, NAMES
from fraud.labels import Label
from fraud.model import Gate, Promise
from fraud.packed import OriginMarks
from fraud.transaction import PLACED_VERSION, Transaction
from fraud.truth import Truth
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS
from monitoring import drift_store, evaluation_store
from monitoring.drift_store import DriftStore
from monitoring.evaluation_store import EvaluationStore
from monitoring.journal import Journal
from monitoring.reference import Registry
from monitoring.settings import ConsoleSettings
from tests.integration.log_writer import identity_columns, write
from tests.scoring import published_models
from trainer.chunk import LogRecord, chunk_for

NOW_MS = 1_714_953_600_000 + 9 * HOUR_MS  # 2024-05-06 09:00
TRANSACTIONS = 360
CARDS = 9
RUN = "run-0a1b2c3d"
SCRIPT = "<script>document.title='hacked'</script>"
REASONS = (
    ("CARD_COUNT_1H", "CARD_SMALL_SHARE_1H", "RULE_CARD_TESTING_1H"),
    ("CARD_AMOUNT_OVER_MEAN_30D", "CARD_NEW_DEVICE", "CARD_NEW_COUNTRY"),
    ("TERMINAL_FRAUD_SHARE_7D", "RULE_TERMINAL_FRAUD_7D"),
    ("CARD_SPEED_KMH_SINCE_LAST", "RULE_IMPOSSIBLE_SPEED"),
    ("CARD_MAX_AMOUNT_MINOR_30D",),
)


def transaction(i: int) -> Transaction:
    """Every ninth minute one, the newest at NOW_MS; the last of each card is odd."""
    at_ms = NOW_MS - (TRANSACTIONS - i) * 29 * MINUTE_MS
    amount = int(np.random.default_rng(i).lognormal(8.2, 0.9)) + 90
    of_run = i >= TRANSACTIONS - 12
    return Transaction(
        f"{RUN}-{i}" if of_run else f"w1-{i}",
        f"c{1000 + i % CARDS}",
        f"t{200 + i % 23}",
        amount * (4 if of_run else 1),
        "EUR",
        at_ms,
        at_ms,
        PLACED_VERSION,
        f"m{i % 23}" if i != TRANSACTIONS - 2 else SCRIPT,
        "5411",
        "FR",
        "card_present" if i % 3 else "online",
        f"d{i % CARDS}",
        4885,
        235,
    )


def alert(i: int, of: Transaction, version: str) -> Alert:
    """The alert of a transaction at offset i."""
    score = round(0.35 + 0.64 * float(np.random.default_rng(1000 + i).random()), 4)
    return Alert(
        alert_id=f"0-{i}",
        transaction_id=of.transaction_id,
        card_id=of.card_id,
        terminal_id=of.terminal_id,
        amount_minor=of.amount_minor,
        currency=of.currency,
        occurred_at_ms=of.occurred_at_ms,
        score=score,
        decision="decline" if score > 0.85 else "review",
        reason_codes=REASONS[i % len(REASONS)],
        model_version=version,
        scored_at_ms=of.occurred_at_ms,
        origin_partition=0,
        origin_offset=i,
    )


@dataclass(frozen=True, slots=True)
class Seeded:
    """What was written. alerts: in log order."""

    champion: str
    alerts: tuple[Alert, ...]


def seed(bootstrap: str, redis_url: str, state: Path) -> Seeded:
    """Write everything; the topics are empty before."""
    champion = _registry(state / "models")
    made = [transaction(i) for i in range(TRANSACTIONS)]
    alerts = tuple(alert(i, of, champion) for i, of in enumerate(made) if i % 11 == 3 or i >= TRANSACTIONS - 10)
    _topics(bootstrap, made, alerts)
    _lake(Lake(state / "lake"), made)
    settings = ConsoleSettings(state_dir=state)
    _evaluation(settings, champion)
    _drift(settings)
    _training(redis_url)
    return Seeded(champion, alerts)


def send_alerts(bootstrap: str, alerts: Sequence[Alert]) -> None:
    """Write alerts as the scorer does."""
    write(bootstrap, topics.ALERTS.name, 0, [(a.card_id.encode(), a.to_json(), []) for a in alerts])


def _registry(root: Path) -> str:
    sample = published_models.vectors()
    columns = {name: sample[:, i] for i, name in enumerate(NAMES)}
    reference = io.BytesIO()
    pl.DataFrame(
        {**columns, SCORE: np.random.default_rng(2).beta(0.4, 6, len(sample)).astype(np.float32)}
    ).write_parquet(reference)
    versions = []
    gates = (
        Gate("promoted", "no champion before it"),
        Gate("rejected", "average precision 0.012 above the champion's is within noise (-0.010 .. 0.031)"),
        Gate("promoted", "average precision 0.041 above the champion's, 90 % of the draws within 0.012 .. 0.070"),
    )
    for day, gate in enumerate(gates):
        files = published_models.files_of(3 + day) | {"reference.parquet": reference.getvalue()}
        files["card.md"] = (
            b"# Model card\n\nLearned from 56 days.\n\n| measure | promised |\n|---|---|\n| AP | 0.71 |\n"
        )
        as_of = NOW_MS - (12 - 4 * day) * DAY_MS
        promise = Promise(0.95 + day / 200, 0.66 + day / 40, 0.31 + day / 50, as_of - 7 * DAY_MS, as_of, 61_000, 310)
        manifest = msgspec.structs.replace(
            published_models.manifest_of(files, 3 + day), as_of_ms=as_of, gate=gate, promise=promise
        )
        versions.append(ModelStore(root).publish(manifest, files))
    store = ModelStore(root)
    store.promote(versions[0])
    store.promote(versions[2])
    return versions[2]


def _topics(bootstrap: str, made: Sequence[Transaction], alerts: Sequence[Alert]) -> None:
    write(bootstrap, topics.TRANSACTIONS.name, 0, [(t.card_id.encode(), t.to_json(), []) for t in made])
    clock = SetClock("clock-1", NOW_MS, speed=60, paused=False, event_time_ms=NOW_MS - 6 * HOUR_MS, cards=5000)
    run = StartScenario(RUN, NOW_MS, "card-testing", 9, 300)
    write(bootstrap, topics.CONTROL.name, 0, [(None, each.to_json(), []) for each in (clock, run)])
    of_run = [t for t in made if t.transaction_id.startswith(RUN)]
    truths = [Truth(t.transaction_id, t.card_id, t.occurred_at_ms, "card-testing", RUN) for t in of_run]
    write(bootstrap, topics.TRUTH.name, 0, [(None, each.to_json(), []) for each in truths])
    send_alerts(bootstrap, alerts)
    labels = [
        Label(
            a.transaction_id, a.card_id, a.terminal_id, a.occurred_at_ms, i % 3 > 0, NOW_MS, "customer_report", NOW_MS
        )
        for i, a in enumerate(alerts[:24])
    ]
    write(bootstrap, topics.LABELS.name, 0, [(each.terminal_id.encode(), each.to_json(), []) for each in labels])
    refused = [
        _refused("AMOUNT_OUT_OF_RANGE", "amount_minor is -5", replace_amount(made[4], -5), 7),
        _refused(
            "NOT_JSON", "JSON is malformed: expected ':' (byte 12)", b'{"card_id" "' + SCRIPT.encode() + b'"}', 11
        ),
    ]
    write(bootstrap, "transactions.dlq", 0, refused)


def replace_amount(of: Transaction, amount_minor: int) -> bytes:
    """A transaction's message with another amount."""
    return msgspec.structs.replace(of, amount_minor=amount_minor).to_json()


def _refused(reason: str, detail: str, raw: bytes, offset: int) -> Record:
    headers = {"reason": reason, "detail": detail, "topic": "transactions", "partition": "0", "offset": str(offset)}
    return b"c1004", raw, [(name, value.encode()) for name, value in headers.items()]


def vectors() -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [TRANSACTIONS, features], as the model's sample, moved for three features."""
    rng = np.random.default_rng(7)
    rows = rng.random((TRANSACTIONS, len(NAMES))).astype(np.float32)
    rows[:, NAMES.index("card_count_1h")] = rng.poisson(2, TRANSACTIONS)
    rows[:, NAMES.index("request_amount_minor")] = [transaction(i).amount_minor for i in range(TRANSACTIONS)]
    return rows


def _lake(lake: Lake, made: Sequence[Transaction]) -> None:
    chunk = chunk_for(topics.FEATURES.name, 0, OriginMarks())
    rows = vectors()
    for offset, at in enumerate(range(0, len(made), packed.ROWS_MAX)):
        part = made[at : at + packed.ROWS_MAX]
        columns: dict[str, packed.Column] = {
            **identity_columns(part, at),
            "vector": rows[at : at + packed.ROWS_MAX],
        }
        raw = packed.pack(packed.VECTORS, columns, {"feature_hash": FEATURE_HASH})
        chunk.take([LogRecord(offset, None, raw, NOW_MS, [])])
    lake.write_chunk(
        topics.FEATURES.name, 0, (chunk.first, chunk.next), chunk.frame(), chunk.marks.marks, chunk.feature_hash
    )


def scores_of(part: Sequence[Transaction], first: int, **given: packed.Column) -> bytes:
    """A record of `scores`; columns that are not given are zero."""
    columns = identity_columns(part, first) | given
    for name, dtype in packed.COLUMNS[packed.SCORES].items():
        if name not in columns:
            columns[name] = np.zeros(len(part), dtype)
    return packed.pack(packed.SCORES, columns, {"model_version": "rules", "review_threshold": 0.5})


def _evaluation(settings: ConsoleSettings, champion: str) -> None:
    rng = np.random.default_rng(11)
    rows = 6_000
    begin = NOW_MS - 15 * DAY_MS
    at = np.sort(rng.integers(begin, NOW_MS, rows))
    made = [
        Transaction(f"e{i}", f"c{i % 700}", f"t{i % 90}", int(rng.lognormal(8, 1)) + 50, "EUR", int(ms), int(ms))
        for i, ms in enumerate(at)
    ]
    is_fraud = rng.random(rows) < 0.02
    score = np.where(is_fraud, rng.beta(3, 1.6, rows), rng.beta(0.5, 9, rows)).astype(np.float32)
    journal = Journal(settings.evaluation_file, evaluation_store.TABLES, evaluation_store.VERSION)
    store = EvaluationStore(journal)
    raw = scores_of(
        made, 0, score=score, rules_score=score * 0.5, decision=np.where(score > 0.9, 2, np.where(score > 0.5, 1, 0))
    )
    batch = packed.unpack(raw, (packed.SCORES,))
    store.add_scores(0, replace(batch, meta={**batch.meta, "model_version": champion}))
    known = [
        Label(
            t.transaction_id,
            t.card_id,
            t.terminal_id,
            t.occurred_at_ms,
            True,
            t.occurred_at_ms + DAY_MS,
            "benchmark",
            NOW_MS,
        )
        for t, fraud in zip(made, is_fraud.tolist(), strict=True)
        if fraud
    ]
    store.add_labels(known)
    scenarios = ("account-takeover", "card-testing", "terminal-compromise", "leaked-card")
    store.add_truth(
        Truth(each.transaction_id, each.card_id, each.occurred_at_ms, scenarios[i % 4]) for i, each in enumerate(known)
    )
    journal.commit()
    journal.close()


def _drift(settings: ConsoleSettings) -> None:
    champion = Registry(settings.models).champion()
    assert champion is not None
    reference = champion.reference()
    journal = Journal(settings.drift_file(FEATURE_HASH), drift_store.TABLES, drift_store.VERSION)
    store = DriftStore(journal)
    store.begin(champion.version, 0)
    window = Window(NOW_MS - DAY_MS, NOW_MS)
    moved = np.tile(published_models.vectors(), (2, 1))
    moved[:, NAMES.index("card_count_24h")] += 0.4
    moved[::3, NAMES.index("terminal_fraud_share_7d")] = np.nan
    window.add_features(reference, moved, NAMES)
    window.add_scores(reference, np.random.default_rng(4).beta(0.5, 6, len(moved)).astype(np.float32))
    judgement = judge(reference, window)
    assert judgement is not None
    store.judged(judgement)
    store.alarms.update({name: Alarm(verdict.excess >= 1, 0) for name, verdict in judgement.columns.items()})
    store.windows[window.start_ms] = window
    store.put()
    journal.commit()
    journal.close()


def _training(redis_url: str) -> None:
    from monitoring.console.training import PROGRESS_STREAM

    client = redis.Redis.from_url(redis_url)
    steps = (
        ("queued", "queued", 0, "starts now"),
        ("running", "replay", 20, "61,204 transactions"),
        ("running", "fit", 55, "400 trees"),
        ("running", "evaluate", 85, "7 days, 310 frauds"),
        ("promoted", "promoted", 100, "average precision 0.041 above the champion's"),
    )
    for state, stage, percent, detail in steps:
        fields = {"request_id": "console-1", "stage": stage, "percent": str(percent), "state": state, "detail": detail}
        client.xadd(PROGRESS_STREAM, fields)  # type: ignore[arg-type]  # str values are valid fields
    client.close()
