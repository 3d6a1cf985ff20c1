"""What the API answers: the shapes that OpenAPI shows, and how a score becomes one.

Rule 1. A number without a value is null, never NaN: JSON has none. float32 values are written with the digits that give
        the same float32 again.
Rule 2. Every refusal is {"reason", "detail"}; the reasons are those of fraud/dead_letters.py, and the few in OWN_REASONS.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final, Literal

import msgspec
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fraud import rules
from fraud.dead_letters import MEANING, Reason
from fraud.decision import APPROVE, DECISIONS
from fraud.features import FEATURE_HASH, NAMES
from fraud.fold import Vectors
from fraud.packed import VECTORS, Batch, Column
from fraud.transaction import BARE_VERSION, PLACED_VERSION, Transaction
from scorer.api.vector_now import NEEDS_TRANSACTION, Includes, VectorNow
from scorer.judge import judge, reasons_of
from scorer.model import Model

OWN_REASONS: Final = {
    "DUPLICATE": "the card has this transaction id within 30 days already: the stream would ignore the transaction",
    "CARD_UNKNOWN": "nothing is stored of this card",
    "RATE_LIMITED": "more requests than this client may send; Retry-After says when the next one passes",
    "STATE_STORE_AWAY": "the state store did not answer in time",
    "DEADLINE": "the history of the card or the terminal was not folded in time",
    "QUERY_INVALID": "a parameter of the address is not of its type",
    "BODY_SLOW": "the body did not arrive in time",
    "HTTP": "no such address or method",
    "INTERNAL": "a fault of the service; its log says more",
}

Names = list[str]


class RefusalShape(BaseModel):
    """Why a request has no answer."""

    reason: str = Field(description=", ".join([*Reason, *OWN_REASONS]), examples=["AMOUNT_OUT_OF_RANGE"])
    detail: str = Field(examples=["amount_minor is -1"])


class IncludesShape(BaseModel):
    """How far the state was that was read."""

    partition: int
    next_offset: int | None = Field(
        description="first offset of the stage's source that is not included; null: none is"
    )
    event_time_ms: int = Field(description="newest event time of the partition")
    newest_at_ms: int | None = Field(description="newest event time of the card or terminal; null: no history")


class CardFeaturesShape(BaseModel):
    """A card's features."""

    card_id: str
    at_ms: int = Field(description="event time that the windows end at")
    feature_hash: str
    features: dict[str, float | None] = Field(description="by name; null: no value", examples=[{"card_count_1h": 2.0}])
    needs_transaction: Names = Field(description="card features that have a value for a transaction only: POST /score")
    includes: IncludesShape


class ScoreShape(BaseModel):
    """A score and a decision."""

    model_config = ConfigDict(protected_namespaces=())

    transaction_id: str
    score: float = Field(ge=0, le=1)
    decision: Literal["approve", "review", "decline"]
    explored: bool = Field(description="would be declined, and is let through to learn from it")
    reason_codes: Names = Field(
        description="of a review or decline: features by contribution, then the rules that fired"
    )
    rules_score: float = Field(ge=0, le=1)
    model_version: str = Field(description="the version that decided; `rules` before any model, and when degraded")
    degraded: bool = Field(description="decided by the rules, because the vector could not be had in time")
    degraded_reason: Literal["STATE_STORE_AWAY", "DEADLINE"] | None
    degraded_detail: str | None
    history: Literal["stored", "memory", "none"] = Field(
        description="stored: the state as it is now; when degraded, what this process had in memory of the card, or none"
    )
    feature_hash: str
    includes: dict[Literal["card", "terminal"], IncludesShape] | None
    features: dict[str, float | None] | None = Field(
        description="the vector by name, with ?features=true, unless degraded"
    )


class HealthShape(BaseModel):
    """Whether the service does its work."""

    status: Literal["ok"]
    deciding: str = Field(description="version that decides")
    state_store: str = Field(description="`ok`, or why answers are degraded")


_BARE: Final = Transaction("t-1", "c-42", "m-7", 4_990, "EUR", 1_522_540_800_000, 1_522_540_800_250)
EXAMPLES: Final = {
    "version 1": _BARE,
    "version 2": msgspec.structs.replace(
        _BARE, schema_version=PLACED_VERSION, merchant_id="shop-3", mcc="5411", country="FR", channel="card_present",
        device_id="d-9", latitude_cdeg=4886, longitude_cdeg=235,
    ),
}  # fmt: skip


def openapi_of_score() -> dict[str, Any]:
    """The request body of POST /score: the schema of a transaction, and one of each version."""
    schema = msgspec.json.schema(Transaction)["$defs"]["Transaction"]
    schema["properties"]["schema_version"]["enum"] = [BARE_VERSION, PLACED_VERSION]
    examples = {name: {"value": msgspec.json.decode(one.to_json())} for name, one in EXAMPLES.items()}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
    }


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's table of refusals."""
    meanings: dict[str, str] = {**{str(code): meaning for code, meaning in MEANING.items()}, **OWN_REASONS}
    reasons = "; ".join(f"{code}: {meaning}" for code, meaning in meanings.items())
    said = {
        404: OWN_REASONS["CARD_UNKNOWN"],
        409: OWN_REASONS["DUPLICATE"],
        413: MEANING[Reason.TOO_LARGE],
        422: f"refused, as the stream would. {reasons}",
        429: OWN_REASONS["RATE_LIMITED"],
        503: OWN_REASONS["STATE_STORE_AWAY"],
    }
    return {status: {"model": RefusalShape, "description": said[status]} for status in statuses}


def card_features(card_id: str, at_ms: int, features: dict[str, float], includes: Includes) -> dict[str, Any]:
    """CardFeaturesShape."""
    return {
        "card_id": card_id,
        "at_ms": at_ms,
        "feature_hash": FEATURE_HASH,
        "features": features,  # msgspec writes NaN as null
        "needs_transaction": [name for name in NEEDS_TRANSACTION if name.startswith("card_")],
        "includes": asdict(includes),
    }


def scored(
    transaction: Transaction, now: VectorNow, model: Model | None, exploration_share: float, with_features: bool
) -> dict[str, Any]:
    """ScoreShape of a vector that is as the stream's would be."""
    told = _judged(transaction, now.values, model, exploration_share)
    return told | {
        "degraded": False,
        "degraded_reason": None,
        "degraded_detail": None,
        "history": "stored",
        "includes": {"card": asdict(now.card), "terminal": asdict(now.terminal)},
        "features": dict(zip(NAMES, now.values.tolist(), strict=True)) if with_features else None,
    }


def degraded(
    transaction: Transaction, vector: Vectors, known: bool, exploration_share: float, reason: str, detail: str
) -> dict[str, Any]:
    """ScoreShape by the rules, over what is in memory; known: whether that is anything of the card."""
    told = _judged(transaction, vector, None, exploration_share)
    return told | {
        "degraded": True,
        "degraded_reason": reason,
        "degraded_detail": detail,
        "history": "memory" if known else "none",
        "includes": None,
        "features": None,
    }


def _judged(transaction: Transaction, vector: Vectors, model: Model | None, exploration_share: float) -> dict[str, Any]:
    row: dict[str, Column] = {
        "transaction_id": [transaction.transaction_id],
        "amount_minor": np.array([transaction.amount_minor]),
        "vector": vector[np.newaxis],
    }
    verdicts = judge(Batch(VECTORS, 1, row, {}), model, exploration_share)
    decision = int(verdicts.decision[0])
    reasons = () if decision == APPROVE else reasons_of(vector[np.newaxis], verdicts.fired, model)[0]
    return {
        "transaction_id": transaction.transaction_id,
        "score": float(verdicts.score[0]),
        "decision": DECISIONS[decision],
        "explored": bool(verdicts.explored[0]),
        "reason_codes": reasons,
        "rules_score": float(verdicts.rules_score[0]),
        "model_version": rules.VERSION if model is None else model.version,
        "feature_hash": FEATURE_HASH,
    }
