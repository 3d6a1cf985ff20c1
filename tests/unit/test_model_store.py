"""The registry under damage, kills and rivals.

Rule 1. Every test works on a real folder; kills are SIGKILL to a real process, before each of its file operations in turn.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest

from adapters.model_store import AliasConflictError, Aliases, ModelStore, TrainingUnderWayError
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


class Careless(ModelStore):
    """What a hurried person would write: the version's folder first, its files after it, the aliases in place."""

    def publish(self, manifest: Manifest, files: Mapping[str, bytes]) -> str:
        folder = self._root / manifest.sealed().version
        folder.mkdir(exist_ok=True)
        for name, content in {**files, "manifest.json": manifest.sealed().to_json()}.items():
            (folder / name).write_bytes(content)
        return manifest.sealed().version

    def set_aliases(self, expected: Aliases, new: Aliases, *_: str) -> None:
        path = self._root / "aliases.json"
        path.write_bytes(b"")
        path.write_bytes(msgspec.json.encode(new))


def killed_at(step: int, root: Path, act: Callable[[], object]) -> bool:
    """Run `act` in a process that is killed before its file operation number `step` below `root`; False: it ended before."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event: str, arguments: tuple[object, ...]) -> None:
            if event in ("open", "os.mkdir", "os.rename", "os.truncate") and str(root) in str(arguments):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            act()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def faults_of_kills(make: Callable[[Path], ModelStore], folder: Path) -> tuple[int, list[str]]:
    """Kill at every step of publishing and promoting a second version; how many kills, and what each left broken."""
    faults, second = [], manifest_of(FILES, 17_001 * DAY_MS)
    for step in range(200):
        root = folder / str(step)
        first = ModelStore(root).publish(manifest_of(FILES), FILES)
        ModelStore(root).promote(first)

        def act(root: Path = root) -> None:
            store = make(root)
            store.promote(store.publish(second, FILES))

        if not killed_at(step, root, act):
            return step, faults
        after = ModelStore(root)
        try:
            for version in after.versions():
                after.read(version)
            if after.champion() not in (first, second.sealed().version):
                faults.append(f"step {step}: nobody is champion")
            after.promote(after.publish(second, FILES))  # no lock and no leftover is in the way
            assert not list(root.glob(".publishing*"))
        except ModelRefusedError as error:
            faults.append(f"step {step}: {error}")
    raise AssertionError("it never ended")


def test_a_kill_at_any_step_of_publishing_and_promoting_leaves_whole_versions_and_one_champion(tmp_path: Path) -> None:
    kills, faults = faults_of_kills(ModelStore, tmp_path)
    assert kills >= 8
    assert faults == []


def test_a_store_that_writes_in_place_is_caught_by_the_same_kills(tmp_path: Path) -> None:
    kills, faults = faults_of_kills(Careless, tmp_path)
    assert kills >= 4
    assert any("manifest.json" in fault for fault in faults)
    assert any("aliases.json" in fault for fault in faults)


def test_of_two_trainers_in_two_processes_that_measured_against_the_same_champion_one_promotes(tmp_path: Path) -> None:
    first = ModelStore(tmp_path).publish(manifest_of(FILES), FILES)
    store = ModelStore(tmp_path)
    store.promote(first)
    seen = store.aliases()
    candidates = [store.publish(manifest_of(FILES, (17_001 + i) * DAY_MS), FILES) for i in range(4)]
    children = []
    for candidate in candidates:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                ModelStore(tmp_path).promote(candidate, seen)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 1, 1, 1]
    assert store.champion() == candidates[codes.index(0)]
    assert [change.after.champion for change in store.changes()] == [first, store.champion()]


def test_only_one_trains_at_a_time_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with (
        store.training(),
        pytest.raises(TrainingUnderWayError, match=str(os.getpid())),
        ModelStore(tmp_path).training(),
    ):
        pass
    child = os.fork()
    if child == 0:
        with store.training():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with store.training():
        pass


def test_every_change_of_the_roles_is_told_with_who_and_why(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, clock=lambda: 0.0)
    first = store.publish(manifest_of(FILES), FILES)
    second = store.publish(manifest_of(FILES, 17_001 * DAY_MS), FILES)
    store.promote(first, by="gate", reason="better")
    store.shadow(second, by="gate", reason="within noise")
    store.promote(second, reason="because")
    store.rollback(reason="alerts doubled")
    told = [(c.at, c.action, c.by, c.reason, c.after) for c in store.changes()]
    assert told == [
        ("1970-01-01T00:00:00Z", "promote", "gate", "better", Aliases(first)),
        ("1970-01-01T00:00:00Z", "shadow", "gate", "within noise", Aliases(first, second)),
        ("1970-01-01T00:00:00Z", "promote", "a person", "because", Aliases(second, None, first)),
        ("1970-01-01T00:00:00Z", "rollback", "a person", "alerts doubled", Aliases(first, None, second)),
    ]


def test_the_champion_cannot_score_in_shadow_and_a_damaged_version_neither(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    first = store.publish(manifest_of(FILES), FILES)
    second = store.publish(manifest_of(FILES, 17_001 * DAY_MS), FILES)
    store.promote(first)
    with pytest.raises(ModelRefusedError, match="is the champion"):
        store.shadow(first)
    assert store.shadow(second).challenger == second
    assert store.shadow(None).challenger is None
    (tmp_path / second / "model.ubj").write_bytes(b"")
    with pytest.raises(ModelRefusedError, match=r"model\.ubj"):
        store.shadow(second)


def test_a_path_outside_the_folder_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(ModelRefusedError, match="no version name"):
        store.read("../elsewhere")
