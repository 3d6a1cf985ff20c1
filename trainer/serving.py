"""`python -m trainer serve`, wired: control and HTTP ask, the schedule asks, one service runs what was asked for.

Rule 1. A request of `control` is committed when it stands in the history, and only then.
Rule 2. The schedule looks when nothing runs: a person's request is never behind a night that could wait.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import redis
import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from adapters.kafka import await_topic
from adapters.lake import Lake, LakeGapError
from adapters.run_history import RunHistory, TrainingRun
from adapters.switch_feed import read_switches
from adapters.telemetry import configure_logging, counter, serve_metrics
from fraud import metrics, topics
from fraud.control import Retrain, parse_control_request
from fraud.dead_letters import BadMessageError
from fraud.switches import Side
from trainer.batch_path.schedule import NightlyJobs
from trainer.door import Door
from trainer.lake_clock import READ_BY_TRAINING, LakeClock, archived_share
from trainer.progress import Progress
from trainer.run_process import start_run
from trainer.schedule import Schedule
from trainer.service import TrainService
from trainer.settings import TrainerSettings

GROUP: Final = "trainer"
LOOK_S: Final = 2.0  # the archiver writes a file every few seconds
# What comes by HTTP and a run's progress wait so long; a message of `control` does not.
_POLL_MS: Final = {True: 1_000, False: 500}  # whether the service is idle
_OFFSETS_MS_MAX: Final = 5_000

log = structlog.get_logger("trainer")


class Nights:
    """Asks the service for a training when the schedule says that one is due. covered_ms: of the history, at the start."""

    def __init__(
        self,
        schedule: Schedule,
        clock: LakeClock,
        service: TrainService,
        covered_ms: int | None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self._clock = clock
        self._service = service
        self._covered_ms = covered_ms
        self._now_s = now_s
        self._looked_s = float("-inf")

    def look(self) -> None:
        """Ask for the night that is due; at most every LOOK_S, never while something runs or waits."""
        now_s = self._now_s()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        span = self._span()
        if span is None:
            return
        night = self._schedule.due(now_s, span[1], span[0], self._covered_ms)
        if night is None or not self._service.idle:
            return
        counter(metrics.TRAIN_NIGHTS_MISSED_TOTAL).inc(night.missed)
        self._covered_ms = night.as_of_ms  # also when its id stands already: it was asked for before a kill
        request_id = f"night-{night.as_of_ms}"
        self._service.accept(Retrain(request_id, night.as_of_ms, night.as_of_ms, "nightly", night.why))

    def ended(self, run: TrainingRun, took_s: float) -> None:
        """A run has ended: what it covers is covered, and a scheduled one is followed by a rest."""
        if run.covers_ms is not None:
            self._covered_ms = max(run.covers_ms, self._covered_ms or run.covers_ms)
        if run.trigger == "nightly":
            self._schedule.ended(self._now_s(), took_s)

    def _span(self) -> tuple[int, int] | None:
        try:
            return self._clock.span_ms()
        except (OSError, LakeGapError) as error:  # a file that is merged just now, or a hole that training will name
            log.warning("the lake's event time cannot be read", why=str(error))
            return None


def covered_ms(history: RunHistory) -> int | None:
    """The newest event time that a run of the history covers; None before any."""
    return max((run.covers_ms for run in history.all() if run.covers_ms is not None), default=None)


def archive_mark(consumer: Any, lake: Lake, partitions: int) -> Callable[[], float | None]:
    """Note where the logs that training reads end; the result says what share of them the lake has."""
    places = [TopicPartition(name, p) for name in READ_BY_TRAINING for p in range(partitions)]
    try:
        ends = consumer.end_offsets(places, timeout_ms=_OFFSETS_MS_MAX)
        begins = consumer.beginning_offsets(places, timeout_ms=_OFFSETS_MS_MAX)
    except (KafkaError, AssertionError) as error:
        log.warning("the logs' ends are not known", why=repr(error))
        return lambda: None
    by_name = [{(tp.topic, tp.partition): offset for tp, offset in of.items()} for of in (ends, begins)]

    def share() -> float | None:
        try:
            return archived_share(lake, *by_name)
        except (OSError, LakeGapError):
            return None

    return share


def run_service(settings: TrainerSettings) -> int:
    """Serve until SIGTERM; return the exit code: 0 stopped, 70 no broker."""
    configure_logging(settings, "trainer")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    progress = Progress(_redis(settings), log)
    history = RunHistory(settings.runs_file)
    try:
        consumer = _consumer(settings)
    except KafkaError as error:
        log.error("no broker", bootstrap=settings.kafka_bootstrap, error=str(error))
        return 70
    service, nights, jobs = _wired(settings, consumer, progress, history)
    door = Door(settings.runs_file, service.ask, settings.trainer_token)
    service.recover()
    serve_metrics(settings, lambda: progress.fault if consumer.assignment() else "not assigned yet", door)
    try:
        await_topic(consumer, topics.CONTROL.name, stopped)
        consumer.subscribe(topics=[topics.CONTROL.name])
        while not stopped.is_set():
            _take_requests(consumer, service)
            nights.look()
            service.step()
            jobs.step()
    except KafkaError as error:
        log.error("trainer stops, to be started again", error=str(error))
        return 70
    finally:
        service.stop()
        jobs.stop()
        history.close()
        consumer.close(autocommit=False, timeout_ms=1000)
    return 0


def _wired(
    settings: TrainerSettings, consumer: KafkaConsumer, progress: Progress, history: RunHistory
) -> tuple[TrainService, Nights, NightlyJobs]:
    lake = Lake(settings.lake)
    clock = LakeClock(lake)

    def reached_ms() -> int | None:
        try:
            span = clock.span_ms()
        except (OSError, LakeGapError):
            return None  # the run itself will name what is wrong
        return None if span is None else span[1]

    service = TrainService(
        progress,
        history,
        start=partial(start_run, niceness=settings.train_niceness, switches=partial(_switches, settings)),
        archive_mark=lambda: archive_mark(consumer, lake, settings.partitions),
        archive_wait_s=settings.train_archive_wait_s,
        reached_ms=reached_ms,
    )
    needs_days = settings.validation_days + 2 * settings.label_delay_days + 1
    schedule = Schedule(settings.train_every_days, settings.train_share_max, settings.train_settle_s, needs_days)
    nights = Nights(schedule, clock, service, covered_ms(history))
    jobs = NightlyJobs(lake, settings.train_settle_s)

    def ended(run: TrainingRun, took_s: float) -> None:
        nights.ended(run, took_s)
        if run.covers_ms is not None:
            jobs.trained()

    service.on_end = ended
    return service, nights, jobs


def _switches(settings: TrainerSettings) -> tuple[str, ...]:
    """The break-it switches of training that are on now. Raises OSError."""
    try:
        return read_switches(settings.kafka_bootstrap).names(Side.TRAINING)
    except KafkaError as error:
        raise OSError(f"which break-it switches are on cannot be read ({error!r})") from error


def _redis(settings: TrainerSettings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True)


def _consumer(settings: TrainerSettings) -> KafkaConsumer:
    return KafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap,
        client_id=GROUP,
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_POLL_MS[True],
        metadata_max_age_ms=10_000,  # a broker that has just come back is asked for the topic again in ten seconds
    )


def _take_requests(consumer: KafkaConsumer, service: TrainService) -> None:
    polled = consumer.poll(timeout_ms=_POLL_MS[service.idle])
    for record in [record for batch in polled.values() for record in batch]:
        try:
            request = parse_control_request(record.value)
            if isinstance(request, Retrain):
                service.accept(request)
        except BadMessageError as error:
            log.warning("control message ignored", offset=record.offset, reason=str(error.reason), detail=error.detail)
    if polled:
        consumer.commit()
