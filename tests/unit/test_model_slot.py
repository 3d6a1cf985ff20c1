"""The model slot under damage: whatever is wrong with a version, the last good one goes on deciding.

Rule 1. Real models, real files; every mutant must be refused with a reason, and none may reach the slot.
Rule 2. Most mutants are refused by hash; what passes the hash is shown to the child process too.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from adapters.model_store import ModelStore
from adapters.telemetry import counter
from fraud import metrics
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import ModelRefusedError, canaries_of, file_hashes
from scorer import verify
from scorer.model import Model, load
from scorer.slot import CHALLENGER, ChildCheck, ModelSlot
from tests.scoring.published_models import files_of, manifest_of, point_to, publish, scores_of, trees, vectors

WAIT_S = 60.0


def no_child(_: Path) -> None:
    """Stands for the child process in tests of what comes before and after it."""


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def settled(slot: ModelSlot, clock: Clock) -> ModelSlot:
    clock.now += 100
    slot.settle(WAIT_S)
    return slot


def refused_count() -> float:
    value: float = counter(metrics.MODEL_LOADS_TOTAL).labels("refused")._value.get()
    return value


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def test_an_empty_registry_leaves_the_slot_to_the_rules(tmp_path: Path) -> None:
    slot = ModelSlot(tmp_path / "models", no_child)
    slot.settle(WAIT_S)
    assert slot.model is None
    assert slot.version == "rules"


def test_the_champion_is_loaded_through_a_real_child_and_scores_as_it_was_published(tmp_path: Path) -> None:
    version = publish(tmp_path)
    point_to(tmp_path, version)
    slot = ModelSlot(tmp_path)
    slot.settle(WAIT_S)
    assert slot.version == version
    assert slot.model is not None
    assert slot.model.score(vectors()[:16]).tobytes() == scores_of(trees(3)).tobytes()
    assert slot.model.review_threshold == 0.25


def test_contributions_and_bias_add_up_to_the_score(tmp_path: Path) -> None:
    model = load(ModelStore(tmp_path).read(publish(tmp_path)))
    margin = model.contributions(vectors()[:16]).sum(axis=1)
    assert model.contributions(vectors()[:16]).shape == (16, len(NAMES) + 1)
    assert np.allclose(1 / (1 + np.exp(-margin)), model.score(vectors()[:16]), atol=1e-5)


def test_scoring_goes_on_with_the_old_model_while_another_is_prepared_and_then_swaps_once(tmp_path: Path) -> None:
    first, second = publish(tmp_path, 3), publish(tmp_path, 4)
    point_to(tmp_path, first)
    clock, may_end = Clock(), [True]

    def slow_child(_: Path) -> None:
        until(lambda: may_end[0])

    slot = settled(ModelSlot(tmp_path, slow_child, clock), clock)
    may_end[0] = False
    point_to(tmp_path, second)
    deciding = []
    clock.now += 1
    for _ in range(50):
        assert slot.refresh() is False
        assert slot.model is not None
        deciding.append(slot.model.version)
    assert set(deciding) == {first}
    may_end[0] = True
    until(slot.refresh)
    assert slot.version == second
    assert slot.refresh() is False


def test_the_alias_is_looked_at_only_every_half_second(tmp_path: Path) -> None:
    clock = Clock()
    slot = settled(ModelSlot(tmp_path, no_child, clock), clock)
    point_to(tmp_path, publish(tmp_path))
    clock.now += 0.4
    slot.settle(WAIT_S)
    assert slot.version == "rules"
    clock.now += 0.2
    slot.settle(WAIT_S)
    assert slot.version != "rules"


def truncated(length: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:length]


def flipped(position: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:position] + bytes([raw[position] ^ 1 << position % 8]) + raw[position + 1 :]


def mutants(count: int = 500) -> list[tuple[str, str, Callable[[bytes], bytes]]]:
    """Name, file, damage. Each is another one."""
    rng = np.random.default_rng(11)
    size, manifest = len(trees(4)), 4_000  # of a manifest's begin: names, hashes, thresholds; canaries follow
    found: list[tuple[str, str, Callable[[bytes], bytes]]] = [
        ("longer", "model.ubj", lambda raw: raw + b"}"),
        ("another model", "model.ubj", lambda _: trees(5)),
        ("not a model", "model.ubj", lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR."),
        ("another card", "card.md", lambda raw: raw + b"!"),
        ("empty metrics", "metrics.json", lambda _: b""),
        ("empty manifest", "manifest.json", lambda _: b""),
        ("truncated manifest", "manifest.json", lambda raw: raw[:-20]),
        ("other threshold", "manifest.json", lambda raw: raw.replace(b'"review": 0.25', b'"review": 0.01')),
        ("other feature hash", "manifest.json", lambda raw: raw.replace(FEATURE_HASH.encode(), b"0123456789ab")),
        ("other XGBoost", "manifest.json", lambda raw: raw.replace(xgb.__version__.encode(), b"9.9.9")),
        ("binary manifest", "manifest.json", lambda _: bytes(range(256))),
        ("path outside", "manifest.json", lambda raw: raw.replace(b'"card.md"', b'"../card.md"')),
        ("another's hash", "manifest.json", lambda raw: raw.replace(sha256(4).encode(), sha256(5).encode())),
        ("another's manifest", "manifest.json", lambda _: manifest_of(files_of(5), 5).sealed().to_json()),
    ]
    for length in (0, 1, 10, *rng.choice(np.arange(11, size), 120, replace=False).tolist()):
        found.append((f"truncated to {length}", "model.ubj", truncated(length)))
    for position in rng.choice(size, 280, replace=False).tolist():
        found.append((f"bit flipped at {position}", "model.ubj", flipped(position)))
    for position in rng.choice(manifest, count - len(found), replace=False).tolist():
        found.append((f"manifest: bit flipped at {position}", "manifest.json", flipped(position)))
    return found


def sha256(rounds: int) -> str:
    return file_hashes({"model.ubj": trees(rounds)})["model.ubj"]


def test_of_500_mutants_none_serves_one_score_and_the_last_good_model_goes_on(tmp_path: Path) -> None:
    good, bad = publish(tmp_path, 3), publish(tmp_path, 4)
    point_to(tmp_path, good)
    clock = Clock()
    slot = settled(ModelSlot(tmp_path, no_child, clock), clock)
    kept = slot.model
    point_to(tmp_path, bad)
    damages = mutants()
    assert len({name for name, _, _ in damages}) == len(damages) == 500
    for name, file, damage in damages:
        path = tmp_path / bad / file
        whole, before = path.read_bytes(), refused_count()
        path.write_bytes(damage(whole))
        assert path.read_bytes() != whole, name
        assert settled(slot, clock).model is kept, name
        assert refused_count() == before + 1, name
        path.write_bytes(whole)
    assert settled(slot, clock).version == bad  # mended, it is taken


FORKS = """
import os, signal, sys
from scorer import verify
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
for folder in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        signal.alarm(15)  # one that would load for ever is ended too, as the slot ends it
        code = 3
        try:
            code = verify.main([folder])
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def loaded_by_children(folders: list[Path]) -> list[int]:
    """Exit codes of `scorer.verify` on versions: a child process each, forked where XGBoost is imported and not yet used."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    return [int(code) for code in done.stdout.split()]


def test_behind_a_right_hash_nothing_serves_another_score_than_the_published_model(tmp_path: Path) -> None:
    """Whoever can make hashes can publish: still, what loads must score the canaries as they were published."""
    raw, rng = trees(3), np.random.default_rng(12)
    places = rng.choice(len(raw), 16, replace=False).tolist()
    mutants_of_it = [raw[:place] + b"\xff" + raw[place + 1 :] for place in places]
    folders = [tmp_path / publish(tmp_path, 3, {**files_of(3), "model.ubj": mutant}) for mutant in mutants_of_it]
    codes = loaded_by_children(folders)
    for folder, code in zip(folders, codes, strict=True):
        if code == 0:  # such as a byte of a statistic that no score uses
            model = load(ModelStore(tmp_path).read(folder.name))
            assert np.abs(model.score(vectors()[:16]) - scores_of(raw)).max() <= 1e-6, folder
    assert codes.count(1) > 2  # refused
    assert set(codes) - {0, 1}, "some crash XGBoost: without a child process they would have ended the scorer"


def test_what_is_empty_cut_or_another_model_behind_a_right_hash_is_refused_by_the_child(tmp_path: Path) -> None:
    """The same damages as above by someone who also makes the manifest: no hash can tell, the child does."""
    raw = trees(3)
    damaged = {"empty": b"", "cut": raw[: len(raw) // 2], "without its end": raw[:-1], "another model": trees(5)}
    published = {name: publish(tmp_path, 3, {**files_of(3), "model.ubj": model}) for name, model in damaged.items()}
    for name in published.keys() - {"empty"}:  # which the registry refuses by its length
        ModelStore(tmp_path).read(published[name])  # whole, by every hash
    codes = loaded_by_children([tmp_path / version for version in published.values()])
    assert 0 not in codes, dict(zip(published, codes, strict=True))
    assert loaded_by_children([tmp_path / publish(tmp_path, 3)]) == [0]  # the child refuses because of the damage
    with pytest.raises(ModelRefusedError, match="canary"):
        load(ModelStore(tmp_path).read(published["another model"]))


def test_a_deleted_version_and_damaged_aliases_leave_the_last_good_model(tmp_path: Path) -> None:
    good = publish(tmp_path)
    point_to(tmp_path, good)
    clock = Clock()
    slot = settled(ModelSlot(tmp_path, no_child, clock), clock)
    for aliases in (b"", b"{", b"[]", b'{"champion":"20200101T000000-aaaaaa"}', b'{"champion":"../../etc"}', b"{}"):
        (tmp_path / "aliases.json").write_bytes(aliases)
        assert settled(slot, clock).version == good


def other_canary_scores() -> dict[str, object]:
    return {"canaries": canaries_of(vectors()[:16], scores_of(trees(3)) + np.float32(1e-4))}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"feature_hash": "0123456789ab"}, "trained on features"),
        ({"xgboost_version": "2.1.0"}, "made by XGBoost"),
        ({"thresholds": {}}, "thresholds.review"),
        ({"thresholds": {"review": 7.0}}, "thresholds.review"),
        (other_canary_scores(), "scores canary"),
    ],
    ids=["features", "xgboost", "no threshold", "threshold", "canaries"],
)
def test_a_whole_version_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    version = publish(tmp_path, 3, None, **changes)
    with pytest.raises(ModelRefusedError, match=reason):
        load(ModelStore(tmp_path).read(version))
    assert verify.main([str(tmp_path / version)]) == 1


def test_canaries_may_differ_in_the_last_digits_only(tmp_path: Path) -> None:
    near = canaries_of(vectors()[:16], scores_of(trees(3)) + np.float32(5e-7))
    assert isinstance(load(ModelStore(tmp_path).read(publish(tmp_path, 3, None, canaries=near))), Model)


ROOT_THRESHOLD = (
    trees(3).index(b"split_conditions[$d#L") + len(b"split_conditions[$d#L") + 8
)  # after the array's length


@pytest.mark.parametrize("flip", [40, 200, ROOT_THRESHOLD], ids=["header", "names", "root threshold"])
def test_what_crashes_or_misleads_xgboost_behind_a_right_hash_stops_at_the_child(tmp_path: Path, flip: int) -> None:
    """The child says no, or dies; either way the parent says no and lives."""
    raw = trees(3)
    for model in (raw[: len(raw) // 2], raw[:flip] + b"\xff\xff\xff\xff" + raw[flip + 4 :]):
        files = {**files_of(3), "model.ubj": model}
        version = publish(tmp_path, 3, files)
        with pytest.raises(ModelRefusedError):
            ChildCheck()(tmp_path / version)


def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ModelRefusedError, match="not loaded within"):
        ChildCheck(seconds_max=0.01)(tmp_path / publish(tmp_path))


def test_a_model_of_fewer_columns_behind_a_right_hash_is_refused(tmp_path: Path) -> None:
    rows = vectors()[:, :5]
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1}, xgb.DMatrix(rows, label=rows[:, 0] > 0.5), 2)
    version = publish(tmp_path, 3, {**files_of(3), "model.ubj": bytes(booster.save_raw("ubj"))})
    with pytest.raises(ModelRefusedError, match=r"5 features|canary|columns"):
        load(ModelStore(tmp_path).read(version))


def test_the_challengers_slot_follows_its_own_role_and_empties_with_it(tmp_path: Path) -> None:
    champion, challenger = publish(tmp_path, 3), publish(tmp_path, 4)
    point_to(tmp_path, champion)
    clock, store = Clock(), ModelStore(tmp_path)
    slot = settled(ModelSlot(tmp_path, no_child, clock, CHALLENGER), clock)
    assert (slot.model, slot.version) == (None, "")
    store.shadow(challenger)
    assert settled(slot, clock).version == challenger
    (tmp_path / "aliases.json").write_bytes(b"{")  # unreadable is not nobody
    assert settled(slot, clock).version == challenger
    (tmp_path / "aliases.json").unlink()
    assert settled(slot, clock).model is None
