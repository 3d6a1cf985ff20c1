"""The training service: requests in, one run at a time, and every request ends in promoted, rejected or failed, with a reason.

Rule 1. One run at a time. A request for the same moment as one that waits or runs joins it; others wait, WAITING_MAX at
        most, and beyond that are refused with the reason.
Rule 2. A request stands in the history before it counts as taken, and its run is marked before it begins: a service that
        dies of a run finds it there, closes it as interrupted, does not repeat it, and goes on with what waits.
Rule 3. A run begins when the lake has what the log had when its turn came, or says in its reason that it had not.
Rule 4. All of it happens on one thread, in `step`; what comes from elsewhere comes through `ask`.
"""

from __future__ import annotations

import queue
import subprocess
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import msgspec

from adapters.run_history import ENDED, QUEUED, RUNNING, RunHistory, TrainingRun
from adapters.telemetry import counter, gauge
from fraud import metrics
from fraud.control import Retrain
from trainer.progress import Progress
from trainer.run_process import Run, StageLine, start_run

WAITING_MAX: Final = 4
_STOP_S: Final = 3.0
_ARCHIVE_LOOK_S: Final = 0.5
_decode_stage = msgspec.json.Decoder(StageLine).decode


@dataclass(slots=True)
class Turn:
    """The request whose turn it is, before and while its process runs.

    archived: the share of the log that the lake has, of what stood in it when the turn came; None: nobody can say.
    """

    request: Retrain
    began_s: float
    archived: Callable[[], float | None]
    looked_s: float = float("-inf")
    note: str = ""


class TrainService:
    """archive_mark(): begins to watch the lake for what the log has now. wall_ms: epoch milliseconds."""

    def __init__(
        self,
        progress: Progress,
        history: RunHistory,
        start: Callable[[Retrain], Run] = start_run,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        archive_mark: Callable[[], Callable[[], float | None]] = lambda: lambda: 1.0,
        archive_wait_s: float = 0.0,
        reached_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._progress = progress
        self._history = history
        self._start = start
        self._clock = clock
        self._wall_ms = wall_ms
        self._archive_mark = archive_mark
        self._archive_wait_s = archive_wait_s
        self._reached_ms = reached_ms
        self._waiting: deque[Retrain] = deque()
        self._joined: dict[str, list[str]] = {}
        self._asked: queue.Queue[tuple[Retrain, Future[TrainingRun]]] = queue.Queue()
        self._turn: Turn | None = None
        self.run: Run | None = None
        self.on_end: Callable[[TrainingRun, float], None] = lambda run, took_s: None

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return self._turn is None and not self._waiting

    def recover(self) -> None:
        """Close the runs that an earlier service left open, and take up the requests that waited. Called once, first."""
        waits = {run.request_id for run in self._history.all() if run.state == QUEUED and run.joined is None}
        for run in self._history.all():
            if run.state == QUEUED and run.joined in waits:
                self._joined.setdefault(str(run.joined), []).append(run.request_id)
            elif run.state == RUNNING or (run.state == QUEUED and run.joined is not None):
                at = f" during `{run.stage}`" if run.stage not in (QUEUED, RUNNING) else ""
                self._end(run.request_id, "failed", "interrupted", f"the trainer was killed{at}: ask again")
            elif run.state == QUEUED:
                self._waiting.append(Retrain(run.request_id, run.asked_at_ms, run.as_of_ms, run.trigger, run.why))

    def ask(self, request: Retrain) -> Future[TrainingRun]:
        """Hand in a request from another thread; the future gives what became of it at first: queued, or refused (failed)."""
        answer: Future[TrainingRun] = Future()
        self._asked.put((request, answer))
        return answer

    def accept(self, request: Retrain) -> TrainingRun:
        """Take a request: queue it, let it join, or refuse it. The same id again changes nothing."""
        run = TrainingRun(
            request_id=request.request_id,
            trigger=request.asked_by,
            why=request.reason,
            as_of_ms=request.as_of_ms,
            asked_at_ms=self._wall_ms(),
        )
        leader = self._same_moment(request)
        if leader is not None:
            run = msgspec.structs.replace(run, joined=leader.request_id)
        if not self._history.add(run):
            return self._history.get(request.request_id)
        if leader is not None:
            self._joined.setdefault(leader.request_id, []).append(request.request_id)
            self._tell(
                request.request_id, QUEUED, QUEUED, 0, f"joins {leader.request_id}, which trains for the same moment"
            )
        elif len(self._waiting) >= WAITING_MAX:
            self._end(request.request_id, "failed", "refused", f"{WAITING_MAX} requests wait already: ask again later")
        else:
            self._waiting.append(request)
            ahead = len(self._waiting) - 1 + (self._turn is not None)
            self._tell(request.request_id, QUEUED, QUEUED, 0, f"{ahead} ahead" if ahead else "starts now")
        return self._history.get(request.request_id)

    def step(self) -> None:
        """Take what was asked, pass on what the run has said, end it when it has ended, begin the next."""
        while not self._asked.empty():
            request, answer = self._asked.get_nowait()
            answer.set_result(self.accept(request))
        if self.run is not None:
            self._listen(self.run)
        if self._turn is None and self._waiting:
            self._begin(self._waiting.popleft())
        if self._turn is not None and self.run is None:
            self._await_archive(self._turn)

    def stop(self) -> None:
        """End the run, saying so. What waits stays in the history, and is taken up by the next start."""
        if self.run is not None:
            self.run.process.terminate()
            try:
                self.run.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.run.process.kill()
                self.run.process.wait()
        if self._turn is not None:
            self._finished("failed", "stopped", "the trainer was stopped during the run: ask again")

    def _same_moment(self, request: Retrain) -> Retrain | None:
        others = [*([] if self._turn is None else [self._turn.request]), *self._waiting]
        return next((other for other in others if other.as_of_ms == request.as_of_ms), None)

    def _begin(self, request: Retrain) -> None:
        self._turn = Turn(request, self._clock(), self._archive_mark())
        for request_id in self._all_of(request):
            run = self._history.get(request_id)
            self._history.put(msgspec.structs.replace(run, state=RUNNING, started_at_ms=self._wall_ms()))

    def _await_archive(self, turn: Turn) -> None:
        now_s = self._clock()
        if now_s - turn.looked_s < _ARCHIVE_LOOK_S:
            return
        turn.looked_s = now_s
        share = turn.archived()
        if share is not None and share < 1 and now_s - turn.began_s < self._archive_wait_s:
            for request_id in self._all_of(turn.request):
                self._tell(request_id, RUNNING, "archive", 1, f"the lake has {share:.0%} of what the log has")
            return
        if share is None:
            turn.note = "whether the lake is complete could not be asked"
        elif share < 1:
            turn.note = (
                f"the lake had {share:.0%} of the log after {self._archive_wait_s:g} s: newer days are not in it"
            )
        self._launch(turn)

    def _launch(self, turn: Turn) -> None:
        covers_ms = self._reached_ms() if turn.request.as_of_ms is None else turn.request.as_of_ms
        for request_id in self._all_of(turn.request):
            self._history.put(msgspec.structs.replace(self._history.get(request_id), covers_ms=covers_ms))
        try:
            self.run = self._start(turn.request)
        except OSError as error:
            self._finished("failed", "start", f"the training process cannot be started: {error}")

    def _listen(self, run: Run) -> None:
        while True:
            try:
                line = run.lines.get_nowait()
            except queue.Empty:
                return
            if line is None:
                self._process_ended(run)
                return
            try:
                run.last = _decode_stage(line)
            except msgspec.DecodeError:
                run.last_text = line or run.last_text
                continue
            if run.last.stage not in ENDED and run.last.stage != "refused":
                for request_id in self._all_of(run.request):
                    self._tell(request_id, RUNNING, run.last.stage, run.last.percent, run.last.detail)

    def _process_ended(self, run: Run) -> None:
        code = run.process.wait()
        gauge(metrics.TRAIN_SECONDS).set(self._clock() - run.started_s)
        last = run.last
        if code == 0 and last is not None and last.stage in ENDED:
            self._finished(last.stage, last.stage, last.detail)
        elif last is not None and last.stage == "refused":
            self._finished("failed", "refused", last.detail)
        else:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            at = f" during `{last.stage}`" if last is not None else ""
            self._finished("failed", "crashed", f"the training process {how}{at}: {run.last_text[:300]}")

    def _finished(self, outcome: str, stage: str, detail: str) -> None:
        """The turn is over: tell all who asked for it."""
        assert self._turn is not None
        turn, self._turn, self.run = self._turn, None, None
        told = f"{detail} ({turn.note})" if turn.note else detail
        for request_id in self._all_of(turn.request):
            self._end(request_id, outcome, stage, told)
        self._joined.pop(turn.request.request_id, None)
        self.on_end(self._history.get(turn.request.request_id), self._clock() - turn.began_s)

    def _end(self, request_id: str, outcome: str, stage: str, detail: str) -> None:
        if self._history.get(request_id).joined is None:
            counter(metrics.TRAIN_RUNS_TOTAL).labels(outcome).inc()
        self._tell(request_id, outcome, stage, 100, detail)

    def _tell(self, request_id: str, state: str, stage: str, percent: int, detail: str) -> None:
        run = self._history.get(request_id)
        ended_at_ms = self._wall_ms() if state in ENDED else None
        self._history.put(
            msgspec.structs.replace(
                run, state=state, stage=stage, percent=percent, detail=detail, ended_at_ms=ended_at_ms
            )
        )
        self._progress.say(request_id, state, stage, percent, detail)

    def _all_of(self, request: Retrain) -> list[str]:
        return [request.request_id, *self._joined.get(request.request_id, ())]
