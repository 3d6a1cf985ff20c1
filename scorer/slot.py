"""The model slot: the model that has a role now (champion: it decides), and the only way that another one takes its place.

Rule 1. Preparing a model never delays scoring: it happens on a thread beside the loop, which only swaps one reference.
Rule 2. Files, manifest, features and XGBoost's version are checked, a child process loads the model and runs the
        canaries, and only then does this process load it.
Rule 3. Whatever is wrong, the last good model goes on deciding; it is counted, and said once.
Rule 4. Before any model the slot is empty, and the rules decide.
Rule 5. The challenger's slot is another of the same kind. It empties when the role is given to nobody: a champion that is
        gone must be replaced, a challenger that is gone is not missed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from adapters.model_store import ModelStore
from adapters.telemetry import counter, gauge
from fraud import metrics, rules
from fraud.batch_features import BATCH_KIND
from fraud.model import STREAM_KIND, ModelRefusedError
from scorer.model import Model, load

LOOK_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 30.0
CHILD_SECONDS_MAX: Final = 60.0
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
BATCH_CHAMPION: Final = "batch_champion"
# By role: the kind of model that it takes, and the metric that shows its version.
_ROLES: Final = {
    CHAMPION: (STREAM_KIND, metrics.MODEL_INFO),
    CHALLENGER: (STREAM_KIND, metrics.CHALLENGER_INFO),
    BATCH_CHAMPION: (BATCH_KIND, metrics.BATCH_MODEL_INFO),
}

log = structlog.get_logger("scorer.slot")


class ChildCheck:
    """Runs `python -m scorer.verify` on a version; `stop` ends a check that is under way."""

    def __init__(self, seconds_max: float = CHILD_SECONDS_MAX) -> None:
        self._seconds_max = seconds_max
        self._child: subprocess.Popen[str] | None = None

    def __call__(self, folder: Path) -> None:
        """Return when the child could load the version. Raises ModelRefusedError when not."""
        command = [sys.executable, "-m", "scorer.verify", str(folder)]
        self._child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _, said = self._child.communicate(timeout=self._seconds_max)
        except subprocess.TimeoutExpired:
            self.stop()
            raise ModelRefusedError(f"{folder.name} was not loaded within {self._seconds_max:.0f} s") from None
        code = self._child.returncode
        if code == 1:
            raise ModelRefusedError((said.strip().splitlines() or [f"{folder.name} was refused"])[-1])
        if code != 0:
            raise ModelRefusedError(f"{folder.name} crashed the process that loaded it (exit code {code}): train again")

    def stop(self) -> None:
        """Kill the child, if one runs."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()


class ModelSlot:
    """Follows a role of the registry below `root`. `refresh` is called by the scoring loop, between batches."""

    def __init__(
        self,
        root: Path,
        check: Callable[[Path], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        role: str = CHAMPION,
    ) -> None:
        self._root = root
        self._role = role
        self._store = ModelStore(root)
        self._child = ChildCheck()
        self._check = check or self._child
        self._clock = clock
        self._look_at = 0.0
        self._retry_at: dict[str, float] = {}
        self._said: set[str] = set()
        self._worker: threading.Thread | None = None
        self._outcome: Model | Exception | None = None
        self._preparing = ""
        self.model: Model | None = None
        self._kind, shown = _ROLES[role]
        self._info = gauge(shown)
        self._show(None)

    @property
    def version(self) -> str:
        """The version that has the role; of the champion's slot `rules` before any model, of another's none (empty)."""
        nobody = rules.VERSION if self._role == CHAMPION else ""
        return nobody if self.model is None else self.model.version

    def refresh(self) -> bool:
        """Look for another version in the role and prepare it beside; swap one that is ready. Never blocks; True after a swap."""
        if self._worker is not None:
            return self._finish() if not self._worker.is_alive() else False
        now = self._clock()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        version = self._wanted()
        if version is None and self._role != CHAMPION and self.model is not None:
            self._swap(None)
            return True
        if version is None or version == self.version or now < self._retry_at.get(version, 0.0):
            return False
        self._preparing = version
        self._worker = threading.Thread(target=self._prepare, args=(version,), name="model-slot", daemon=True)
        self._worker.start()
        return False

    def settle(self, timeout_s: float) -> None:
        """Wait until the version of this moment is in the slot or refused: a restart shall not begin with rules."""
        self.refresh()
        if self._worker is not None:
            self._worker.join(timeout_s)
            self.refresh()

    def close(self) -> None:
        """End a preparation that is under way."""
        self._child.stop()

    def _wanted(self) -> str | None:
        """The version that the registry gives the role; what stands in the slot when the registry cannot be read."""
        try:
            aliases = self._store.aliases()
        except (ModelRefusedError, OSError) as error:
            self._refused("aliases", error)
            return None if self.model is None else self.model.version
        wanted: str | None = getattr(aliases, self._role)
        return wanted

    def _prepare(self, version: str) -> None:
        try:
            self._store.read(version)  # a damaged file shows here, before a process is spent on it
            self._check(self._root / version)
            self._outcome = load(self._store.read(version), self._kind)
        except Exception as error:  # rule 3: whatever it is, the last good model goes on
            self._outcome = error

    def _finish(self) -> bool:
        outcome, self._outcome, self._worker = self._outcome, None, None
        if not isinstance(outcome, Model):
            self._retry_at[self._preparing] = self._clock() + RETRY_SECONDS
            self._refused(self._preparing, outcome)
            return False
        counter(metrics.MODEL_LOADS_TOTAL).labels("loaded").inc()
        self._swap(outcome)
        return True

    def _swap(self, model: Model | None) -> None:
        before, self.model = self.version, model
        self._show(before)
        log.info("model swapped", role=self._role, version=self.version, before=before)

    def _show(self, before: str | None) -> None:
        if before:
            self._info.remove(before)
        if self.version:
            self._info.labels(self.version).set(1)

    def _refused(self, what: str, error: Exception | None) -> None:
        counter(metrics.MODEL_LOADS_TOTAL).labels("refused").inc()
        message = f"{what}: {error}"
        if message not in self._said:
            self._said.add(message)
            log.error(
                "model refused, the last good one stays",
                refused=what,
                role=self._role,
                kept=self.version,
                reason=str(error),
            )
