"""`python -m benchmarks.censoring [--seeds 0,1,2] [--cards N] [--days D]`: what training may do with declined transactions.

Rule 1. A closed loop without Kafka: the world's rows go through the stream's own fold, decisions and label desk, in steps of
        six hours; each week a model learns from what is known then and decides until the next, so what a strategy declines
        is what it will not be told. An analyst's verdict counts for features from the step after it.
Rule 2. Strategies differ in what training does with a declined transaction that nobody can label, and in nothing else.
Rule 3. The truth is read here only to measure: each week's model on all transactions of the week after it.

Prints, by share of declined that is let through (exploration) and strategy: AP and recall at the alert budget on the truth,
share of the frauds that is declined, and the paired difference to `exclude`, each with an interval over the seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import cpu_count
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import xgboost as xgb
from scipy.stats import t as student

from fraud import rules
from fraud.alert import Alert
from fraud.columns import TerminalColumns, known_hash, transaction_hashes
from fraud.decision import APPROVE, COSTS, DECLINE, Costs, decide, explored
from fraud.features import FEATURE_HASH, NAMES
from fraud.fold import LABEL, TRANSACTION, CardFold, TerminalFold, is_striking
from fraud.model import Floats
from fraud.transaction import LEDGER_CURRENCY
from fraud.windows import DAY_MS, HOUR_MS
from producer.label_desk import Analysts, LabelDesk, WaitingLabel
from producer.world.label_delays import SOURCES, known_later
from producer.world.world import World
from trainer.backfill import card_columns, checked
from trainer.calibration import folded, platt
from trainer.evaluate import average_precision, threshold_for_budget
from trainer.fit import FIT, FitParams, score

IGNORE, EXCLUDE, WEIGH, BELIEVE, ORACLE = "ignore", "exclude", "weigh", "believe", "oracle"
STRATEGIES: Final = {
    IGNORE: "as if nothing were hidden: declined and unlabelled is genuine after a week",
    EXCLUDE: "declined and unlabelled is left out",
    WEIGH: "left out, and the explored count for all that were declined (inverse propensity)",
    BELIEVE: "declined is fraud",
    ORACLE: "what no bank has: the declined get labels like all others",
}
STEP_MS: Final = 6 * HOUR_MS
FIRST_TRAINING_DAY: Final = 28
TRAIN_DAYS: Final = 56
MATURITY_MS: Final = 7 * DAY_MS
CALIBRATED_SHARE: Final = 0.2
# Fewer bins and rounds than the trainer: five strategies of many worlds have to be learned, and all alike.
PARAMS: Final = replace(FIT, max_bin=128, rounds=80, eta=0.15)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lived:
    """A world's days: rows in order of time with truth, and what becomes known by itself."""

    rows: pl.DataFrame
    begin_ms: int
    days: int

    @staticmethod
    def of(seed: int, cards: int, days: int) -> Lived:
        """The world of a seed."""
        world, parts = World(seed, cards), []
        for day in range(days):
            frame = world.frame(world.day(day))
            random = np.random.default_rng([seed, day])
            known = known_later(random, frame["is_fraud"].to_numpy(), frame["occurred_at_ms"].to_numpy())
            parts.append(
                frame.with_columns(
                    source=pl.Series(known.source),
                    told_fraud=pl.Series(known.is_fraud),
                    told_at_ms=pl.Series(known.known_at_ms),
                )
            )
        rows = pl.concat(parts)
        begin_ms = int(rows["occurred_at_ms"].min()) // DAY_MS * DAY_MS  # type: ignore[arg-type]
        return Lived(rows, begin_ms, days)


@dataclass
class Model:
    """A booster with its threshold; None stands for the rules."""

    booster: xgb.Booster | None = None
    threshold: float = rules.REVIEW_THRESHOLD

    def score(self, vectors: Floats) -> Floats:
        """Scores [rows]."""
        return rules.score(rules.fired(vectors)) if self.booster is None else score(self.booster, vectors)


@dataclass(frozen=True)
class Terms:
    """The alert budget, and the probability from which declining is cheaper than a review."""

    alerts_per_day: int
    decline_from: float

    @property
    def costs(self) -> Costs:
        """The stack's costs, but for that of refusing an honest customer."""
        return replace(COSTS, refusal_minor=round(COSTS.review_minor / (1 - self.decline_from)))


@dataclass
class Served:
    """What has been served so far: blocks of [rows, features], and columns beside them."""

    vectors: list[Floats] = field(default_factory=list)
    columns: list[pl.DataFrame] = field(default_factory=list)

    def table(self) -> tuple[Floats, pl.DataFrame]:
        """All of it."""
        return np.concatenate(self.vectors), pl.concat(self.columns)


class Loop:
    """One world under one strategy."""

    def __init__(self, lived: Lived, strategy: str, exploration: float, terms: Terms) -> None:
        self.lived, self.strategy, self.exploration = lived, strategy, exploration
        self.alerts_per_day, self.costs = terms.alerts_per_day, terms.costs
        self.cards, self.terminals = CardFold(keep_changes=False), TerminalFold(keep_changes=False)
        self.desk = LabelDesk(Analysts(per_day_max=terms.alerts_per_day))
        self.model = Model()
        self.served = Served()
        self.labels: list[WaitingLabel] = []
        self.weeks: list[dict[str, float]] = []

    def run(self) -> list[dict[str, float]]:
        """Live all days; the measures of each week that a model decided."""
        begin_ms, days = self.lived.begin_ms, self.lived.days
        times = self.lived.rows["occurred_at_ms"].to_numpy()
        for at_ms in range(begin_ms, begin_ms + days * DAY_MS, STEP_MS):
            day, rest = divmod(at_ms - begin_ms, DAY_MS)
            if rest == 0 and day >= FIRST_TRAINING_DAY and (day - FIRST_TRAINING_DAY) % 7 == 0:
                self._measure_week(at_ms)
                self.model = self._trained(at_ms)
            low, high = np.searchsorted(times, [at_ms, at_ms + STEP_MS])
            self._step(self.lived.rows[int(low) : int(high)], at_ms)
        self._measure_week(begin_ms + days * DAY_MS)
        return self.weeks

    def _step(self, rows: pl.DataFrame, at_ms: int) -> None:
        table = checked(rows.drop("is_fraud", "source"))
        told = card_columns(table)
        card = self.cards.apply(table["card_id"].to_list(), told)
        striking = is_striking(card.vectors, told.amount_minor)
        terminal_ids, log, place = self._terminal_log(table, striking, told.occurred_at_ms, at_ms)
        terminal = self.terminals.apply(terminal_ids, log)
        vectors = np.concatenate([card.vectors, terminal.vectors[place]], axis=1)
        scored = self.model.score(vectors)
        decision = decide(scored, table["amount_minor"].to_numpy(), self.model.threshold, self.costs)
        through = explored(decision, table["transaction_id"].to_list(), self.exploration)
        decision[through] = APPROVE
        self.served.vectors.append(vectors)
        self.served.columns.append(
            rows.select("transaction_id", "card_id", "occurred_at_ms", "amount_minor", "is_fraud").with_columns(
                score=pl.Series(scored), decision=pl.Series(decision), explored=pl.Series(through)
            )
        )
        self._tell_desk(rows, scored, decision)

    def _terminal_log(
        self, table: pl.DataFrame, striking: npt.NDArray[np.uint8], times: npt.NDArray[np.int64], at_ms: int
    ) -> tuple[list[str], TerminalColumns, npt.NDArray[np.int64]]:
        """Transactions with the labels that become known among them, and where each transaction stands."""
        labels = self.desk.due(at_ms + STEP_MS - 1)
        self.labels += labels
        known = np.searchsorted(times, [label.due_ms for label in labels], side="left")
        places = known + np.arange(len(labels))
        kind = np.full(len(times) + len(labels), TRANSACTION, np.uint8)
        kind[places] = LABEL
        at = np.flatnonzero(kind == TRANSACTION)

        def column(of_rows: Any, of_labels: Any, dtype: Any) -> Any:
            made = np.empty(len(kind), dtype)
            made[at], made[places] = of_rows, of_labels
            return made

        ids = column(table["terminal_id"].to_list(), [label.terminal_id for label in labels], object)
        hashes = transaction_hashes([label.transaction_id for label in labels])
        paying = [known_hash(card) for card in table["card_id"].to_list()]
        return (
            ids.tolist(),
            TerminalColumns(
                kind,
                column(transaction_hashes(table["transaction_id"].to_list()), hashes, np.uint64),
                column(times, [label.occurred_at_ms for label in labels], np.int64),
                column(table["amount_minor"].to_numpy(), 0, np.int64),
                column(paying, 0, np.uint64),
                column(0, [label.is_fraud for label in labels], np.uint8),
                column(striking, 0, np.uint8),
            ),
            at,
        )

    def _tell_desk(self, rows: pl.DataFrame, scored: Floats, decision: npt.NDArray[np.uint8]) -> None:
        frauds = rows.filter("is_fraud").select("transaction_id", "occurred_at_ms").rows()
        known = rows.filter(pl.col("source") > 0)
        self.desk.happened(
            frauds,
            [
                WaitingLabel(told_at, name, SOURCES[source], card, terminal, occurred, is_fraud, told_at)  # type: ignore[arg-type]
                for name, card, terminal, occurred, source, is_fraud, told_at in known.select(
                    "transaction_id", "card_id", "terminal_id", "occurred_at_ms", "source", "told_fraud", "told_at_ms"
                ).iter_rows()
            ],
        )
        wanted = rows.select("transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms")
        for at in np.flatnonzero(decision != APPROVE).tolist():
            if decision[at] == DECLINE and self.strategy == ORACLE:
                continue  # nothing is hidden: what becomes known by itself stays
            name, card, terminal, amount, occurred = wanted.row(at)
            verdict: Literal["decline", "review"] = "decline" if decision[at] == DECLINE else "review"
            self.desk.decided(
                Alert(
                    alert_id=name,
                    transaction_id=name,
                    card_id=card,
                    terminal_id=terminal,
                    amount_minor=amount,
                    currency=LEDGER_CURRENCY,
                    occurred_at_ms=occurred,
                    score=float(scored[at]),
                    decision=verdict,
                    reason_codes=(),
                    model_version="",
                    scored_at_ms=occurred,
                    origin_partition=0,
                    origin_offset=0,
                )
            )

    def _measure_week(self, to_ms: int) -> None:
        if self.model.booster is None:
            return
        columns = pl.concat(self.served.columns)
        week = columns.filter(pl.col("occurred_at_ms") >= to_ms - 7 * DAY_MS)
        truth, scored = week["is_fraud"].to_numpy(), week["score"].to_numpy()
        top = np.argsort(-scored, kind="stable")[: 7 * self.alerts_per_day]
        declined = week["decision"].to_numpy() == DECLINE
        self.weeks.append(
            {
                "ap": float(average_precision(truth, scored) or 0.0),
                "recall": float(truth[top].sum() / truth.sum()),
                "declined": float((declined & truth).sum() / truth.sum()),
                "declined_rows": int(declined.sum()),
                "declined_genuine": int((declined & ~truth).sum()),
                "explored_rows": int(week["explored"].sum()),
            }
        )

    def _trained(self, as_of_ms: int) -> Model:
        """A model of what is known at a moment, by the strategy."""
        vectors, columns = self.served.table()
        learned = self._learned(columns, as_of_ms)
        rows = np.flatnonzero(learned["weight"].to_numpy() > 0)
        learned, vectors = learned[rows], vectors[rows]
        later = np.searchsorted(
            learned["occurred_at_ms"].to_numpy(),
            _cut_ms(learned["occurred_at_ms"], CALIBRATED_SHARE),
        )
        fraud, weight = learned["fraud"].to_numpy().astype(np.float32), learned["weight"].to_numpy()
        booster = _fit(vectors[:later], fraud[:later], weight[:later], PARAMS)
        times = np.rint(weight[later:]).astype(int)
        calibration = platt(np.repeat(score(booster, vectors[later:]), times), np.repeat(fraud[later:], times))
        booster = folded(_fit(vectors, fraud, weight, PARAMS), calibration)
        week = columns.filter(pl.col("occurred_at_ms") >= as_of_ms - 7 * DAY_MS)
        newest = np.concatenate(self.served.vectors[-7 * DAY_MS // STEP_MS :])[-week.height :]
        scored = week.select("occurred_at_ms").with_columns(score=pl.Series(score(booster, newest)))
        return Model(booster, threshold_for_budget(scored, self.alerts_per_day))

    def _learned(self, columns: pl.DataFrame, as_of_ms: int) -> pl.DataFrame:
        """fraud (as known) and weight (0: not learned from) of each served row."""
        known = {
            label.transaction_id: label.is_fraud
            for label in sorted(self.labels, key=lambda each: each.known_at_ms)
            if label.known_at_ms < as_of_ms
        }
        labels = pl.DataFrame(
            {"transaction_id": list(known), "told": list(known.values())},
            schema={"transaction_id": pl.String, "told": pl.Boolean},
        )
        joined = columns.join(labels, on="transaction_id", how="left", maintain_order="left")
        times = pl.col("occurred_at_ms")
        period = (times >= as_of_ms - MATURITY_MS - TRAIN_DAYS * DAY_MS) & (times < as_of_ms - MATURITY_MS)
        hidden = (pl.col("decision") == DECLINE) & pl.col("told").is_null()
        fraud = pl.col("told").fill_null(False)
        weight = pl.lit(1.0)
        if self.strategy in (EXCLUDE, WEIGH):
            weight = pl.when(hidden).then(0.0).otherwise(1.0)
        if self.strategy == WEIGH:
            inside = joined.filter(period)
            let_through = int(inside["explored"].sum())
            share = (int(inside.select(hidden.sum()).item()) + let_through) / max(1, let_through)
            weight = pl.when(hidden).then(0.0).when("explored").then(float(round(share))).otherwise(1.0)
        if self.strategy == BELIEVE:
            fraud = pl.when(hidden).then(True).otherwise(fraud)
        return joined.with_columns(fraud=fraud, weight=pl.when(period).then(weight).otherwise(0.0))


def _cut_ms(times: pl.Series, share: float) -> int:
    first, last = int(times.min()), int(times.max())  # type: ignore[arg-type]
    return int(last - share * (last - first))


def _fit(vectors: Floats, is_fraud: Floats, weight: Array, params: FitParams) -> xgb.Booster:
    matrix = xgb.QuantileDMatrix(
        vectors,
        label=is_fraud,
        weight=weight,
        feature_names=list(NAMES),
        max_bin=params.max_bin,
        nthread=params.nthread,
    )
    return xgb.train(params.of_booster(), matrix, num_boost_round=params.rounds)


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval over the seeds (Student's t)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:.3f} ({mean - half:.3f} .. {mean + half:.3f})"


def measured(lived: Lived, strategy: str, exploration: float, terms: Terms) -> dict[str, float]:
    """Means over the weeks after the first model's: in its own week the rules' decisions still hide what was hidden."""
    weeks = Loop(lived, strategy, exploration, terms).run()[1:]
    means = {name: float(np.mean([week[name] for week in weeks])) for name in weeks[0]}
    return means | {"weeks": float(len(weeks))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--cards", type=int, default=2000)
    parser.add_argument("--days", type=int, default=70)
    parser.add_argument("--alerts-per-day", type=int, default=20)
    parser.add_argument("--decline-from", type=float, default=0.5, help="the stack's costs give 0.85")
    parser.add_argument("--exploration", default="0.01,0.1")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--results", type=Path, help="file of JSON lines: runs that stand in it are not run again")
    arguments = parser.parse_args()
    terms = Terms(arguments.alerts_per_day, arguments.decline_from)
    print(
        f"{platform.machine()}, {cpu_count()} CPUs, Python {sys.version.split()[0]}, features {FEATURE_HASH}; "
        f"{arguments.cards} cards, {arguments.days} days, {terms}, seeds {arguments.seeds}",
        flush=True,
    )
    done = _done(arguments.results)
    for seed in map(int, arguments.seeds.split(",")):
        lived = Lived.of(seed, arguments.cards, arguments.days)
        for share in map(float, arguments.exploration.split(",")):
            for strategy in arguments.strategies.split(","):
                run = {"seed": seed, "exploration": share, "strategy": strategy, "decline_from": terms.decline_from}
                if any(run.items() <= each.items() for each in done):
                    continue
                began_s = time.process_time()
                means = measured(lived, strategy, share, terms)
                done.append(run | {name: round(value, 4) for name, value in means.items()})
                print(json.dumps(done[-1] | {"cpu_s": round(time.process_time() - began_s, 1)}), flush=True)
                if arguments.results:
                    with arguments.results.open("a") as file:
                        file.write(json.dumps(done[-1]) + "\n")
    _print_table([each for each in done if each["decline_from"] == terms.decline_from])


def _done(results: Path | None) -> list[dict[str, Any]]:
    if results is None or not results.exists():
        return []
    return [json.loads(line) for line in results.read_text().splitlines()]


MEASURES: Final = ("ap", "recall", "declined", "right")
COMPARED: Final = ("ap", "recall", "declined")


def _print_table(done: Sequence[dict[str, Any]]) -> None:
    """declined: share of the frauds. right: share of the declined that is fraud. Differences are to `exclude`, paired."""
    found: dict[tuple[float, str], dict[int, dict[str, float]]] = {}
    for each in done:
        right = 1 - each["declined_genuine"] / max(1e-9, each["declined_rows"])
        found.setdefault((each["exploration"], each["strategy"]), {})[each["seed"]] = each | {"right": right}
    print(
        f"\n| exploration | strategy | worlds | {' | '.join(MEASURES)} | {' | '.join(f'{n} - exclude' for n in COMPARED)} |"
    )
    print("|---" * (3 + len(MEASURES) + len(COMPARED)) + "|")
    for (share, strategy), of_seeds in sorted(found.items()):
        cells = [interval([each[name] for each in of_seeds.values()]) for name in MEASURES]
        beside = found.get((share, EXCLUDE), {})
        for name in COMPARED:
            pairs = [(each[name], beside[seed][name]) for seed, each in of_seeds.items() if seed in beside]
            cells.append("" if strategy == EXCLUDE or not pairs else interval([one - other for one, other in pairs]))
        print(f"| {share:.0%} | {strategy} | {len(of_seeds)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
