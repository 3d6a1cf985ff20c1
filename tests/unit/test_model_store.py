"""The registry under damage, kills and rivals.

Rule 1. Every test works on a real folder; nothing is mocked but the moment of the kill.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from adapters.model_store import AliasConflictError, Aliases, ModelStore
from fraud.model import (
    Floats,
    Gate,
    Manifest,
    ModelRefusedError,
    Promise,
    TrainedOn,
    canaries_of,
    check_served_by,
    file_hashes,
)

DAY_MS = 86_400_000
NAMES = ("amount_minor", "card_count_1h")


def vectors() -> Floats:
    rows = np.arange(32, dtype=np.float32).reshape(16, 2)
    rows[3, 1] = np.nan
    return rows


def manifest_of(files: dict[str, bytes], as_of_ms: int = 17_000 * DAY_MS) -> Manifest:
    return Manifest(
        as_of_ms=as_of_ms,
        created_at="2026-01-01T00:00:00Z",
        feature_hash="abc",
        feature_names=NAMES,
        xgboost_version="3.2.0",
        files=file_hashes(files),
        trained_on=TrainedOn(0, DAY_MS, 100, 3),
        labels_known_by_ms=DAY_MS,
        params={"max_depth": 3},
        promise=Promise(0.9, None, 0.3, 0, DAY_MS, 10, 1),
        thresholds={"review": 0.25},
        canaries=canaries_of(vectors(), np.linspace(0, 1, 16, dtype=np.float32)),
        gate=Gate("promoted", "no champion before it"),
    )


FILES = {"model.ubj": b"trees", "card.md": b"# card"}


def test_a_manifest_keeps_nan_and_float32_bits_through_json() -> None:
    manifest = Manifest.from_json(manifest_of(FILES).sealed().to_json())
    assert manifest.canary_vectors().view(np.uint32).tolist() == vectors().view(np.uint32).tolist()
    assert manifest.canary_scores().tobytes() == np.linspace(0, 1, 16, dtype=np.float32).tobytes()
    assert manifest.promise.ap is None


def test_a_changed_manifest_is_refused() -> None:
    raw = manifest_of(FILES).sealed().to_json().replace(b'"review": 0.25', b'"review": 0.99')
    with pytest.raises(ModelRefusedError, match="changed after it was published"):
        Manifest.from_json(raw)


@pytest.mark.parametrize("raw", [b"", b"{}", b"null", b"\xff", b'{"kind":"xgboost"}'])
def test_what_is_no_manifest_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(ModelRefusedError, match=r"manifest\.json"):
        Manifest.from_json(raw)


def test_a_model_of_other_features_or_another_xgboost_does_not_fit() -> None:
    manifest = manifest_of(FILES).sealed()
    check_served_by(manifest, "abc", NAMES, "3.2.0")
    with pytest.raises(ModelRefusedError, match="train again"):
        check_served_by(manifest, "abd", NAMES, "3.2.0")
    with pytest.raises(ModelRefusedError, match="train again"):
        check_served_by(manifest, "abc", NAMES, "2.1.0")


def test_a_version_is_named_by_its_time_and_content_and_reads_back(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    version = store.publish(manifest_of(FILES), FILES)
    assert version.startswith("20160718T000000-")
    assert store.versions() == [version]
    assert store.read(version).model == b"trees"
    assert store.publish(manifest_of(FILES), FILES) == version


@pytest.mark.parametrize("name", ["model.ubj", "card.md", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, name: str, damage: str) -> None:
    store = ModelStore(tmp_path)
    version = store.publish(manifest_of(FILES), FILES)
    path = tmp_path / version / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[:3] if damage == "truncate" else content)
    if damage == "delete":
        path.unlink()
    with pytest.raises(ModelRefusedError, match=name):
        store.read(version)
    with pytest.raises(ModelRefusedError):
        store.promote(version)
    assert store.champion() is None


def test_promotion_moves_the_champion_to_previous_and_rollback_brings_it_back(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    first = store.publish(manifest_of(FILES), FILES)
    second = store.publish(manifest_of(FILES, 17_001 * DAY_MS), FILES)
    assert store.promote(first) == Aliases(champion=first)
    assert store.promote(second) == Aliases(champion=second, previous=first)
    assert store.promote(second) == Aliases(champion=second, previous=first)
    assert store.rollback() == Aliases(champion=first, previous=second)


def test_of_two_rivals_who_read_the_same_aliases_one_is_refused(tmp_path: Path) -> None:
    store, rival = ModelStore(tmp_path), ModelStore(tmp_path)
    first = store.publish(manifest_of(FILES), FILES)
    second = store.publish(manifest_of(FILES, 17_001 * DAY_MS), FILES)
    read_by_both = store.aliases()
    rival.promote(second, read_by_both)
    with pytest.raises(AliasConflictError):
        store.promote(first, read_by_both)
    assert store.champion() == second


def test_files_other_than_the_manifest_says_are_not_published(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="byte for byte"):
        ModelStore(tmp_path).publish(manifest_of(FILES), {**FILES, "model.ubj": b"other"})
    assert ModelStore(tmp_path).versions() == []


@pytest.mark.parametrize("step", range(6))
def test_a_kill_at_any_step_of_publishing_leaves_a_whole_version_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class Killed(BaseException):
        pass

    store, steps = ModelStore(tmp_path), iter(range(100))
    real_sync = os.fsync

    def die_at_step(descriptor: int) -> None:
        if next(steps) == step:
            raise Killed
        real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", die_at_step)
    try:
        store.publish(manifest_of(FILES), FILES)
    except Killed:
        for version in store.versions():
            store.read(version)
    monkeypatch.setattr(os, "fsync", real_sync)
    version = ModelStore(tmp_path).publish(manifest_of(FILES), FILES)
    assert store.read(version).model == b"trees"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".publishing")] == []


def test_a_path_outside_the_folder_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(ModelRefusedError, match="no version name"):
        store.read("../elsewhere")
