"""A model's manifest: what a version is, what it was trained on, what it promised, and how to tell that it is whole.

Rule 1. A version's name holds the hash of its manifest, and the manifest the SHA-256 of every file: one damaged byte shows.
Rule 2. Canaries hold exact float32 bits: a model that scores one of them otherwise is not the model that was published.
Rule 3. A vector has fraud.features.NAMES order of the feature hash that stands here; another hash is never scored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MODEL_FILE: Final = "model.ubj"
METRICS_FILE: Final = "metrics.json"
REFERENCE_FILE: Final = "reference.parquet"
CARD_FILE: Final = "card.md"
CANARIES_MIN: Final = 16
REVIEW: Final = "review"
STREAM_KIND: Final = "xgboost"  # of a manifest: a model of the streaming path
_is_version = re.compile(r"\A\d{8}T\d{6}-[0-9a-f]{6}\Z").match


class ModelRefusedError(RuntimeError):
    """A model version that must not be used; the message names the version, the file or field, and the remedy."""


class TrainedOn(msgspec.Struct, frozen=True):
    """The training rows: event times from_ms <= t < to_ms, how many, and how many of them fraud."""

    from_ms: int
    to_ms: int
    rows: int
    fraud: int


class Promise(msgspec.Struct, frozen=True):
    """What the model did on matured data that it had not seen: event times from_ms <= t < to_ms. None: undefined there."""

    auc: float | None
    ap: float | None
    cp_at_100: float | None
    from_ms: int
    to_ms: int
    rows: int
    fraud: int


class Gate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the trainer decided about the version when it was made: `promoted` or `rejected`, and why.

    rival: the champion's version, or `rules`; difference: average precision above the rival's, low .. high: the middle 90 %
    of its draws; rows, fraud: what both were measured on. None: not compared.
    shadow: rejected, yet not shown to be worse than the champion on sound data: it scores in shadow, and delivers numbers.
    switches: the break-it switches that were on when it was made (fraud/switches.py); its promise is wrong on purpose.
    """

    outcome: str
    reason: str
    rival: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int | None = None
    fraud: int | None = None
    shadow: bool = False
    switches: tuple[str, ...] = ()


class Canary(msgspec.Struct, frozen=True):
    """A vector and its score, each as the hex of little-endian float32 bytes: JSON has no NaN and rounds floats."""

    vector: str
    score: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """manifest.json of a version. `version` is set by `sealed`; the times of `trained_on` and `promise` are event time.

    as_of_ms: the simulated moment of training. labels_known_by_ms: no label known at or after it was used.
    files: SHA-256 of every other file of the version. thresholds: the score at which a decision begins, by decision.
    """

    as_of_ms: int
    created_at: str
    feature_hash: str
    feature_names: tuple[str, ...]
    xgboost_version: str
    files: dict[str, str]
    trained_on: TrainedOn
    labels_known_by_ms: int
    params: dict[str, Any]
    promise: Promise
    thresholds: dict[str, float]
    canaries: tuple[Canary, ...]
    gate: Gate
    kind: str = STREAM_KIND
    version: str = ""

    def to_json(self) -> bytes:
        """The manifest as it stands in manifest.json."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Decode and check a manifest. Raises ModelRefusedError that names the field."""
        try:
            manifest = msgspec.json.decode(raw, type=cls)
            names, width = manifest.feature_names, len(manifest.feature_names)
            canaries = len(manifest.canary_vectors()), width
        except (msgspec.DecodeError, ValueError) as error:
            raise ModelRefusedError(f"manifest.json cannot be read: {error}; publish the version again") from error
        if canaries[0] < CANARIES_MIN or len(set(names)) != width:
            raise ModelRefusedError(
                f"manifest.json has {canaries[0]} canaries (at least {CANARIES_MIN}) or a repeated feature name"
            )
        if manifest.version != manifest.content_version():
            raise ModelRefusedError(f"manifest.json of {manifest.version!r} was changed after it was published")
        return manifest

    def content_version(self) -> str:
        """The version's name: as-of time (UTC) and six hex digits of the content; `created_at` is not content."""
        bare = msgspec.structs.replace(self, version="", created_at="")
        digest = hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()
        return f"{datetime.fromtimestamp(self.as_of_ms / 1000, UTC):%Y%m%dT%H%M%S}-{digest[:6]}"

    def sealed(self) -> Self:
        """This manifest with its version's name."""
        return msgspec.structs.replace(self, version=self.content_version())

    def canary_vectors(self) -> Floats:
        """The canaries' vectors, float32 [canaries, features]. Raises ValueError for another width."""
        rows = [np.frombuffer(bytes.fromhex(canary.vector), "<f4") for canary in self.canaries]
        for row in rows:
            if len(row) != len(self.feature_names):
                raise ValueError(
                    f"a canary has {len(row)} values, the manifest names {len(self.feature_names)} features"
                )
        return np.array(rows, np.float32).reshape(len(rows), len(self.feature_names))

    def canary_scores(self) -> Floats:
        """The scores that the canaries must get, float32 [canaries], bit for bit."""
        return np.array([np.frombuffer(bytes.fromhex(canary.score), "<f4")[0] for canary in self.canaries], np.float32)


def canaries_of(vectors: Floats, scores: Floats) -> tuple[Canary, ...]:
    """The canaries of vectors [n, features] and their scores [n]."""
    rows = np.ascontiguousarray(vectors, "<f4")
    return tuple(
        Canary(row.tobytes().hex(), score.tobytes().hex())
        for row, score in zip(rows, np.ascontiguousarray(scores, "<f4"), strict=True)
    )


def file_hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file's content, by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def is_version(name: str) -> bool:
    """Whether this is the form of a version's name: 20180808T000000-1a2b3c."""
    return _is_version(name) is not None


def check_served_by(manifest: Manifest, feature_hash: str, names: Sequence[str], xgboost_version: str) -> None:
    """Refuse a model that this process's code does not fit: other features, or another XGBoost.

    Raises ModelRefusedError with the remedy.
    """
    if manifest.feature_hash != feature_hash or tuple(manifest.feature_names) != tuple(names):
        raise ModelRefusedError(
            f"{manifest.version} was trained on features {manifest.feature_hash}, this code computes {feature_hash}: train again"
        )
    if manifest.xgboost_version != xgboost_version:
        raise ModelRefusedError(
            f"{manifest.version} was made by XGBoost {manifest.xgboost_version}, this process has {xgboost_version}: train again"
        )
