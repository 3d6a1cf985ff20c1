"""`python -m trainer serve`: runs the trainings that `control` asks for, one at a time, and says how each of them goes.

Rule 1. Every request ends in one of promoted, rejected, failed, with a reason, also when its run or this service is killed.
Rule 2. A request is committed before its run begins: a service that dies of a run does not repeat it for ever.
Rule 3. A run is a niced process of its own: it cannot take the live path's processor, and its crash is only its own.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Final

import msgspec
import redis
import structlog
from kafka import KafkaConsumer
from kafka.errors import KafkaError

from adapters.lake import Lake
from adapters.telemetry import configure_logging, counter, gauge, serve_metrics
from fraud import metrics, topics
from fraud.control import Retrain, parse_control_request
from fraud.dead_letters import BadMessageError
from trainer.batch_path.schedule import NightlyJobs
from trainer.settings import TrainerSettings

PROGRESS_STREAM: Final = "fraudstream:train:progress"
GROUP: Final = "trainer"
_STREAM_LENGTH: Final = 10_000
_WAITING_MAX: Final = 4
_NICENESS: Final = 10
_STOP_S: Final = 3.0
_FINAL: Final = frozenset({"promoted", "rejected", "failed"})


class StageLine(msgspec.Struct, frozen=True):
    """One line of `train --json-progress`."""

    stage: str
    percent: int
    detail: str


_decode_stage = msgspec.json.Decoder(StageLine).decode


class Progress:
    """The stream that says how runs go; Redis being away loses lines, never a run. The client decodes responses."""

    def __init__(self, client: redis.Redis, log: structlog.stdlib.BoundLogger) -> None:
        self._client = client
        self._log = log
        self.fault: str | None = None

    def say(self, request_id: str, state: str, stage: str, percent: int, detail: str) -> None:
        """Add one line."""
        self._log.info("training", request_id=request_id, state=state, stage=stage, percent=percent, detail=detail)
        fields = {"request_id": request_id, "stage": stage, "percent": str(percent), "state": state, "detail": detail}
        try:
            self._client.xadd(PROGRESS_STREAM, fields, maxlen=_STREAM_LENGTH, approximate=True)  # type: ignore[arg-type]  # str values are valid fields
            self.fault = None
        except redis.RedisError as error:
            self.fault = f"progress cannot be written to Redis: {error}"
            self._log.warning("progress not written", error=str(error))

    def fail_unfinished(self) -> None:
        """Close the runs that an earlier service left open: it was killed while they ran."""
        try:
            lines: Any = self._client.xrange(PROGRESS_STREAM)
        except redis.RedisError as error:
            self.fault = f"progress cannot be read from Redis: {error}"
            return
        newest = {fields["request_id"]: fields["state"] for _, fields in lines}
        for request_id, state in newest.items():
            if state not in _FINAL:
                self.say(
                    request_id, "failed", "stopped", 100, "the trainer was killed before the run had ended: ask again"
                )


@dataclass(slots=True)
class Run:
    """A training process and what it has said."""

    request: Retrain
    process: subprocess.Popen[str]
    started_s: float
    lines: queue.Queue[str | None] = field(default_factory=queue.Queue)
    last: StageLine | None = None
    last_text: str = ""


def start_run(request: Retrain, clock: Callable[[], float] = time.monotonic) -> Run:
    """Start the training process of a request. Raises OSError when the machine refuses."""
    as_of = "latest" if request.as_of_ms is None else str(request.as_of_ms)
    command = [sys.executable, "-m", "trainer", "train", "--as-of", as_of, "--json-progress", "--tethered"]
    # The run holds the other end of stdin: when this service dies, it reads the end of it and dies too.
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
    run = Run(request, process, clock())
    assert process.stdout is not None
    threading.Thread(target=_pump, args=(process.stdout, run.lines), daemon=True, name="train-output").start()
    return run


def _pump(output: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in output:
        lines.put(line.rstrip())
    lines.put(None)


class TrainService:
    """Requests in, runs one at a time, progress out."""

    def __init__(
        self,
        progress: Progress,
        start: Callable[[Retrain], Run] = start_run,
        clock: Callable[[], float] = time.monotonic,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._progress = progress
        self._start = start
        self._ended = ended
        self._clock = clock
        self._waiting: deque[Retrain] = deque()
        self.run: Run | None = None

    def accept(self, request: Retrain) -> None:
        """Queue a request, or refuse it when too many wait."""
        if len(self._waiting) >= _WAITING_MAX:
            self._end(request, "failed", "refused", f"{_WAITING_MAX} requests wait already: ask again later")
            return
        self._waiting.append(request)
        ahead = len(self._waiting) - 1 + (self.run is not None)
        self._progress.say(request.request_id, "queued", "queued", 0, f"{ahead} ahead" if ahead else "starts now")

    def step(self) -> None:
        """Pass on what the run has said; end it when it has ended; start the next."""
        if self.run is not None:
            self._listen(self.run)
        if self.run is None and self._waiting:
            request = self._waiting.popleft()
            try:
                self.run = self._start(request)
            except OSError as error:
                self._end(request, "failed", "start", f"the training process cannot be started: {error}")

    def stop(self) -> None:
        """End the run and what waits, saying so."""
        if self.run is not None:
            self.run.process.terminate()
            try:
                self.run.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.run.process.kill()
                self.run.process.wait()
            self._end(self.run.request, "failed", "stopped", "the trainer was stopped during the run: ask again")
            self.run = None
        while self._waiting:
            self._end(self._waiting.popleft(), "failed", "stopped", "the trainer was stopped before the run: ask again")

    def _listen(self, run: Run) -> None:
        while True:
            try:
                line = run.lines.get_nowait()
            except queue.Empty:
                return
            if line is None:
                self._finish(run)
                return
            try:
                run.last = _decode_stage(line)
            except msgspec.DecodeError:
                run.last_text = line or run.last_text
                continue
            if run.last.stage not in _FINAL and run.last.stage != "refused":
                self._progress.say(run.request.request_id, "running", run.last.stage, run.last.percent, run.last.detail)

    def _finish(self, run: Run) -> None:
        code = run.process.wait()
        gauge(metrics.TRAIN_SECONDS).set(self._clock() - run.started_s)
        self.run = None
        last = run.last
        if code == 0 and last is not None and last.stage in _FINAL:
            self._end(run.request, last.stage, last.stage, last.detail)
            self._ended()
        elif last is not None and last.stage == "refused":
            self._end(run.request, "failed", "refused", last.detail)
        else:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            at = f" during `{last.stage}`" if last is not None else ""
            self._end(run.request, "failed", "crashed", f"the training process {how}{at}: {run.last_text[:300]}")

    def _end(self, request: Retrain, outcome: str, stage: str, detail: str) -> None:
        counter(metrics.TRAIN_RUNS_TOTAL).labels(outcome).inc()
        self._progress.say(request.request_id, outcome, stage, 100, detail)


def _redis(settings: TrainerSettings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True)


def run_service(settings: TrainerSettings) -> int:
    """Serve until SIGTERM; return the exit code: 0 stopped, 70 no broker."""
    log = configure_logging(settings, "trainer")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    progress = Progress(_redis(settings), log)
    try:
        consumer = KafkaConsumer(
            topics.CONTROL.name,
            bootstrap_servers=settings.kafka_bootstrap,
            client_id=GROUP,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=10_000,  # a broker that has just come back is asked for the topic again in ten seconds
        )
    except KafkaError as error:
        log.error("no broker", bootstrap=settings.kafka_bootstrap, error=str(error))
        return 70
    serve_metrics(settings, lambda: progress.fault if consumer.assignment() else "not assigned yet")
    progress.fail_unfinished()
    jobs = NightlyJobs(Lake(settings.lake))
    service = TrainService(progress, ended=jobs.trained)
    try:
        while not stopped.is_set():
            _take_requests(consumer, service, log)
            service.step()
            jobs.step()
    except KafkaError as error:
        log.error("trainer stops, to be started again", error=str(error))
        return 70
    finally:
        service.stop()
        jobs.stop()
        consumer.close(autocommit=False, timeout_ms=1000)
    return 0


def _take_requests(consumer: KafkaConsumer, service: TrainService, log: structlog.stdlib.BoundLogger) -> None:
    polled = consumer.poll(timeout_ms=250)
    records = [record for batch in polled.values() for record in batch]
    if not records:
        return
    consumer.commit()
    for record in records:
        try:
            request = parse_control_request(record.value)
            if isinstance(request, Retrain):
                service.accept(request)
        except BadMessageError as error:
            log.warning("control message ignored", offset=record.offset, reason=str(error.reason), detail=error.detail)
