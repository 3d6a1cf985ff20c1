"""The gate: whether a new model takes the champion's place.

Rule 1. Both are measured on the same rows, which neither has learned from; better means by more than noise: the middle 90 %
        of the paired bootstrap's differences in average precision lie above zero.
Rule 2. Whoever sits there now is the rival: the champion, or without one that can be used the rules.
Rule 3. Nothing becomes champion that ranks no better than chance, that rests on damaged data, or that cannot be compared.
Rule 4. Every verdict has a reason with its numbers; a rejected version stays in the registry and can be promoted by hand.
Rule 5. What is sound and not shown to be worse than the champion may score in shadow: its own deliveries will tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from adapters.model_store import ModelStore, StoredModel
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import REFERENCE_FILE, Floats, Gate, ModelRefusedError
from trainer.fit import from_bytes, score
from trainer.ladder import RULES, SERVED
from trainer.measures import MEASURES, JudgedRows, Measured, measured

PROMOTED: Final = "promoted"
REJECTED: Final = "rejected"
CONFIDENCE: Final = 0.9
FRAUD_MIN: Final = 10
CHANCE_DEVIATIONS: Final = 4.0


def usable_champion(store: ModelStore) -> tuple[StoredModel | None, str]:
    """The champion, or None and why there is none that can be used."""
    version = store.champion()
    if version is None:
        return None, "there is no champion yet"
    try:
        stored = store.read(version)
    except ModelRefusedError as error:
        return None, f"the champion cannot be used: {error}"
    needed = stored.manifest.feature_hash
    if needed != FEATURE_HASH:
        return None, f"the champion {version} needs features {needed}, served are {FEATURE_HASH}"
    return stored, ""


def reference_vectors(champion: StoredModel) -> Floats:
    """The sample of what the champion learned from, float32 [rows, features]."""
    frame = pl.read_parquet(champion.folder / REFERENCE_FILE, columns=list(NAMES))
    return np.ascontiguousarray(frame.select(NAMES).to_numpy(), np.float32)


def verdict(
    champion: tuple[StoredModel | None, str],
    judged: pl.DataFrame,
    ladder: Measured,
    faults: Sequence[str],
    alerts_per_day_max: int,
    seed: int,
) -> Gate:
    """Whether the candidate becomes champion.

    judged: the validation rows with the candidate's `score`, card_id, is_fraud, occurred_at_ms and NAMES.
    ladder: the candidate and the rules, measured on them. faults: what is wrong with the data.
    """
    fraud = int(judged["is_fraud"].sum())
    if faults:
        return Gate(
            REJECTED, f"degraded data: {'; '.join(faults)}. `fraudstream models promote --force` overrules this"
        )
    if min(fraud, judged.height - fraud) < FRAUD_MIN:
        return Gate(
            REJECTED,
            f"{fraud} fraud among the {judged.height} rows to measure on, {FRAUD_MIN} needed of either kind",
            rows=judged.height,
            fraud=fraud,
        )
    if (reason := _no_better_than_chance(ladder)) is not None:
        return Gate(REJECTED, reason, rows=judged.height, fraud=fraud)
    stored, why = champion
    if stored is None:
        return comparison(ladder, (SERVED, RULES), RULES, judged, preface=f"{why}; ")
    unseen = judged.filter(pl.col("occurred_at_ms") >= stored.manifest.trained_on.to_ms)
    seen_fraud = int(unseen["is_fraud"].sum())
    if seen_fraud < FRAUD_MIN:
        return Gate(
            REJECTED,
            f"{stored.version} has learned from all but {unseen.height} of these rows, with {seen_fraud} fraud: "
            f"{FRAUD_MIN} are needed to compare, so train again when newer days have matured",
            rival=stored.version,
            rows=unseen.height,
            fraud=seen_fraud,
            shadow=True,
        )
    rival = score(from_bytes(stored.model), np.ascontiguousarray(unseen.select(NAMES).to_numpy(), np.float32))
    rows = JudgedRows.of(unseen, alerts_per_day_max)
    both = measured(rows, {SERVED: unseen["score"].to_numpy(), "champion": rival}, seed)
    return comparison(both, (SERVED, "champion"), stored.version, unseen, may_shadow=True)


def _no_better_than_chance(ladder: Measured) -> str | None:
    """Why the candidate's order of the rows could be luck; None when it could not."""
    area = float(ladder.values[ladder.names.index(SERVED), MEASURES.index("auc")])
    noise = float(np.nanstd(ladder.draws[:, ladder.names.index(SERVED), MEASURES.index("auc")]))
    if area - 0.5 > CHANCE_DEVIATIONS * noise:
        return None
    return (
        f"no better than chance: AUC {area:.3f}, {CHANCE_DEVIATIONS:g} deviations of {noise:.3f} above 0.5 are needed"
    )


def comparison(
    both: Measured,
    names: tuple[str, str],
    rival: str,
    rows: pl.DataFrame,
    *,
    preface: str = "",
    may_shadow: bool = False,
) -> Gate:
    """Promoted when the first of `names` is better than the second by more than noise.

    both: the two, measured on `rows`. rival: the version that the second one is. preface: what the reason begins with.
    may_shadow: whether the first scores in shadow when it is neither.
    """
    difference = both.difference(*names, "ap", CONFIDENCE)
    mine, other = (both.interval(each, "ap").value for each in names)
    return Gate(
        PROMOTED if difference.low > 0 else REJECTED,
        f"{preface}AP {mine:.4f} against {other:.4f} of {rival} on {rows.height} rows neither has learned from "
        f"(difference {difference.value:+.4f}, {CONFIDENCE:.0%} of draws {difference.low:+.4f} .. {difference.high:+.4f})",
        rival=rival,
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        rows=rows.height,
        fraud=int(rows["is_fraud"].sum()),
        shadow=may_shadow and difference.low <= 0 < difference.high,
    )
