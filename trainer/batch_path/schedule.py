"""When the batch path works: a snapshot once event time has passed a midnight, a model of its own after each training run.

Rule 1. Each job is a niced process of its own, one of a kind at a time; it ends with this service (it holds the other end of stdin).
Rule 2. Of several midnights that have passed only the newest is made: the others would never be joined.
        None is made while the stream passes midnights in less real time than `settle_s` each: it catches up, and each would be
        out of date before it stands. After one it rests as long as it took.
Rule 3. A job that fails is counted, said, and tried again after RETRY_S; it touches no other run. A night whose snapshot fails
        again waits twice as long each time, up to RETRY_S_MAX: a lake that begins after its midnight will never have it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from adapters.lake import Lake, LakeGapError
from adapters.telemetry import counter, gauge
from fraud import metrics
from fraud.windows import DAY_MS
from trainer.batch_path.nights import NewestMidnight
from trainer.run_process import QUIET_THREADS

LOOK_S: Final = 2.0  # the archiver writes a file every few seconds
RETRY_S: Final = 30.0
RETRY_S_MAX: Final = 600.0
_NICENESS: Final = 10
_STOP_S: Final = 3.0

log = structlog.get_logger("batch_path")


@dataclass(slots=True)
class Job:
    """A process, and what it is for."""

    process: subprocess.Popen[str]
    started_s: float
    midnight_ms: int = 0


def start_job(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start `python -m trainer ...`, which ends when this process does. Raises OSError when the machine refuses."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments, "--tethered"],
        stdin=subprocess.PIPE,
        text=True,
        env={**QUIET_THREADS, **os.environ},
    )
    os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
    return process


class NightlyJobs:
    """`step` is called by the service's loop; it never blocks. settle_s: real time that a night must last; 0: any."""

    def __init__(
        self,
        lake: Lake,
        settle_s: float,
        start: Callable[[Sequence[str]], subprocess.Popen[str]] = start_job,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._clock = clock
        self._settle_s = settle_s
        self._newest = NewestMidnight(lake)
        self._seen_ms: int | None = None
        self._seen_at = 0.0
        self._settles_at = 0.0
        self._look_at = 0.0
        self._published_ms = -1
        self._failed_ms = -1
        self._retry_s = 0.0
        self._retry_at = 0.0
        self._is_training_due = False
        self._snapshot: Job | None = None
        self._training: Job | None = None

    def trained(self) -> None:
        """A training run has ended: the batch path's model is due too."""
        self._is_training_due = True

    def step(self) -> None:
        """End what has ended, and start what is due."""
        self._finish_snapshot()
        if self._training is not None and (code := self._training.process.poll()) is not None:
            log.info("the batch path's training has ended", exit_code=code)
            self._training = None
        if self._is_training_due and self._training is None:
            self._is_training_due = False
            self._training = self._started(["train", "--as-of", "latest", "--path", "batch"], 0)
        if self._snapshot is None and self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_S
            midnight_ms = self._due()
            if midnight_ms is not None:
                self._snapshot = self._started(["snapshot", "--as-of", str(midnight_ms)], midnight_ms)

    def stop(self) -> None:
        """End the jobs."""
        for job in (self._snapshot, self._training):
            if job is None or job.process.poll() is not None:
                continue
            job.process.terminate()
            try:
                job.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                job.process.kill()
                job.process.wait()

    def _due(self) -> int | None:
        """The newest midnight that has passed and has no snapshot yet."""
        try:
            newest = self._newest()
        except (LakeGapError, OSError) as error:
            log.warning("no snapshot can be made", reason=str(error))
            return None
        if newest is None or newest <= self._published_ms or not self._is_settled(newest):
            return None
        if newest == self._failed_ms and self._clock() < self._retry_at:
            return None
        return newest

    def _is_settled(self, newest_ms: int) -> bool:
        """Whether midnights pass slowly enough for a snapshot to be of use; the first one that is seen always does."""
        now = self._clock()
        if newest_ms != self._seen_ms:
            if (
                self._seen_ms is not None
                and now - self._seen_at < self._settle_s * (newest_ms - self._seen_ms) / DAY_MS
            ):
                self._settles_at = now + self._settle_s
            self._seen_ms, self._seen_at = newest_ms, now
        return now >= self._settles_at

    def _started(self, arguments: Sequence[str], midnight_ms: int) -> Job | None:
        try:
            return Job(self._start(arguments), self._clock(), midnight_ms)
        except OSError as error:
            self._look_at = self._clock() + RETRY_S
            log.warning("a job of the batch path cannot be started", reason=str(error))
            return None

    def _finish_snapshot(self) -> None:
        job = self._snapshot
        if job is None or (code := job.process.poll()) is None:
            return
        self._snapshot = None
        counter(metrics.SNAPSHOT_RUNS_TOTAL).labels("published" if code == 0 else "failed").inc()
        took_s = self._clock() - job.started_s
        gauge(metrics.SNAPSHOT_SECONDS).set(took_s)
        if code == 0:
            self._published_ms = job.midnight_ms
            self._look_at = self._clock() + max(LOOK_S, took_s)
            return
        self._retry_s = min(RETRY_S_MAX, 2 * self._retry_s) if job.midnight_ms == self._failed_ms else RETRY_S
        self._failed_ms, self._retry_at = job.midnight_ms, self._clock() + self._retry_s
        self._look_at = self._clock() + RETRY_S
        log.warning(
            "the nightly snapshot failed, it is tried again",
            midnight_ms=job.midnight_ms,
            exit_code=code,
            in_s=self._retry_s,
        )
