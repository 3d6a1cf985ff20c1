"""The nightly run: backfill, a lake of it, then the trainer's own command: dataset, fit, evaluate, publish.

Rule 1. Training runs as it does at night: `python -m trainer train` in a process of its own, with default settings.
Rule 2. The bars apply to all 183 days. Memory is the most that the system saw of the trainer's process, and of this one before it.
Rule 3. The simulated world and writing the lake's files stand in for the stream and the archiver, and are not in the time.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from adapters.backends.server import Say
from adapters.lake import Lake
from adapters.model_store import ModelStore
from benchmarks.harness.result import Feature
from cli.services import with_code_on_path
from fraud import topics
from fraud.features import FEATURE_HASH, NAMES
from fraud.windows import DAY_MS
from producer import handbook
from scorer.model import load
from trainer.backfill import backfill

NIGHT_S_MAX: Final = 90
NIGHT_GIB_MAX: Final = 4
LABEL_DELAY_MS: Final = 7 * DAY_MS
TRAIN_S_MAX: Final = 1_800
EXPLAINED_ROWS: Final = 200
EXPLAIN_MS_MAX: Final = 3


class TrainFailedError(RuntimeError):
    """The trainer refused or failed; the message has its last words."""


def measured(folder: Path, days: int, say: Say) -> list[Feature]:
    """Simulate `days` days of the Handbook world, and run the night on them. Raises TrainFailedError."""
    say(f"simulating {days} days of the Handbook world")
    world = handbook.world(0, days)
    rows = world.select(
        "transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms",
        label_is_fraud="is_fraud", label_known_at_ms=pl.col("occurred_at_ms") + LABEL_DELAY_MS,
    )  # fmt: skip
    begin_s = time.perf_counter()
    vectors = backfill(rows).vectors
    backfill_s = time.perf_counter() - begin_s
    say(f"backfill of {rows.height:,} rows: {backfill_s:.1f} s")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_lake(Lake(folder / "lake"), world, vectors)
    stages, train_s = trained(folder, say)
    night_s = backfill_s + train_s
    shown = [("backfill", backfill_s), *stages.items()]
    return [
        *(Feature(name=f"night: {name}", value=round(s, 2), unit="s", bar="", passed=True) for name, s in shown),
        Feature(
            name=f"the whole night on {rows.height:,} rows",
            value=round(night_s, 1),
            unit="s",
            bar=f"at most {NIGHT_S_MAX}" if days == handbook.DAYS else "",
            passed=night_s <= NIGHT_S_MAX,
        ),
        *_memory(days == handbook.DAYS),
        *_explained(ModelStore(folder / "models"), vectors, days == handbook.DAYS),
    ]


def _explained(store: ModelStore, vectors: pl.DataFrame, is_judged: bool) -> list[Feature]:
    """What the reasons of one alert cost with the model that the night has promoted, if any: exact SHAP values, a row at a time."""
    champion = store.champion()
    if champion is None:
        return []
    model = load(store.read(champion))
    rows = np.ascontiguousarray(vectors.tail(EXPLAINED_ROWS).select(NAMES).to_numpy(), np.float32)
    took_ms = []
    for at in range(len(rows)):
        begin_s = time.perf_counter()
        model.contributions(rows[at : at + 1])
        took_ms.append((time.perf_counter() - begin_s) * 1000)
    ms, bar = statistics.median(took_ms), f"at most {EXPLAIN_MS_MAX}" if is_judged else ""
    name = "exact SHAP values of one alert"
    return [Feature(name=name, value=round(ms, 2), unit="ms", bar=bar, passed=ms <= EXPLAIN_MS_MAX)]


def _memory(is_judged: bool) -> list[Feature]:
    """The peaks of resident memory: this process has simulated the world and run the backfill, its only child has trained."""
    peaks = (("backfill, with the world", resource.RUSAGE_SELF), ("training", resource.RUSAGE_CHILDREN))
    told = [(name, resource.getrusage(whose).ru_maxrss / 2**20) for name, whose in peaks]  # Linux counts in KiB
    bar = f"at most {NIGHT_GIB_MAX}" if is_judged else ""
    return [
        Feature(name=f"night: memory, {name}", value=round(gib, 2), unit="GiB", bar=bar, passed=gib <= NIGHT_GIB_MAX)
        for name, gib in told
    ]


def write_lake(lake: Lake, world: pl.DataFrame, vectors: pl.DataFrame) -> None:
    """Files of `features` and `labels` as the archiver would have written them, as far as training reads them."""
    count = world.height
    origin = {
        "log_offset": pl.int_range(count),
        "origin_partition": pl.lit(0, pl.Int32),
        "origin_offset": pl.int_range(count),
    }
    identity = ["transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms"]
    features = world.select(*identity).with_columns(**origin, ingested_at_ms=pl.col("occurred_at_ms"))
    served = features.join(vectors, on="transaction_id", how="inner", maintain_order="left")
    lake.write_chunk(topics.FEATURES.name, 0, (0, count), served, {}, FEATURE_HASH)
    labels = world.select("transaction_id", "card_id", "terminal_id", "occurred_at_ms", "is_fraud").with_columns(
        log_offset=pl.int_range(count),
        known_at_ms=pl.col("occurred_at_ms") + LABEL_DELAY_MS,
        source=pl.lit("benchmark"),
        refused=pl.lit(None, pl.String),
    )
    lake.write_chunk(topics.LABELS.name, 0, (0, count), labels, {})


def trained(folder: Path, say: Say) -> tuple[dict[str, float], float]:
    """Run the trainer; seconds of each stage that it reports, and of the whole process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    command = [sys.executable, "-m", "trainer", "train", "--as-of", "latest", "--json-progress"]
    began_s = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**with_code_on_path(clean), "FRAUD_STATE_DIR": str(folder), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    reached: list[tuple[str, float]] = [("start", began_s)]
    told: list[str] = []
    for line in process.stdout:
        told.append(line.rstrip())
        if line.startswith("{") and "stage" in (stage := json.loads(line)):
            reached.append((str(stage["stage"]), time.perf_counter()))
            say(told[-1][:140])
    if process.wait(TRAIN_S_MAX):
        raise TrainFailedError(
            "the trainer ended with code {}:\n  {}".format(process.returncode, "\n  ".join(told[-10:]))
        )
    ended_s = time.perf_counter()
    pairs = zip(reached, [*reached[1:], ("", ended_s)], strict=True)
    stages = {name: after_s - before_s for (name, before_s), (_, after_s) in pairs}
    return stages, ended_s - began_s
