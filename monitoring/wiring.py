"""The two services wired: the evaluator, and the watch over drift, lags, state store, registry and parity.

Rule 1. Exit codes: 0 stopped by SIGTERM or SIGINT, 2 a journal that a person must look at, 70 a fault that a restart heals.
Rule 2. Nothing is flushed at a fault: what counts was committed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Final

import redis
import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError

from adapters.garbage import settle_garbage
from adapters.settings import StackSettings
from adapters.switch_feed import SwitchFeed
from adapters.telemetry import configure_logging, serve_metrics
from fraud import topics
from fraud.control import Retrain
from fraud.features import FEATURE_HASH
from fraud.switches import Side
from fraud.windows import DAY_MS, HOUR_MS
from monitoring import drift_store, drift_watch, evaluation_store, evaluator
from monitoring.drift_watch import DriftWatch, RetrainAsker
from monitoring.evaluation import Terms
from monitoring.evaluator import Evaluator
from monitoring.follower import ConsumerStuckError, Follower, KafkaAwayError, connect
from monitoring.journal import Journal, JournalRefusedError
from monitoring.parity_rounds import Cadence, ParityRounds
from monitoring.probes import LagProbe, RegistryProbe, StateStoreProbe, look_at_all, state_reader
from monitoring.reference import Registry
from monitoring.settings import MonitoringSettings

EXIT_PERSON: Final = 2
EXIT_RESTART: Final = 70
_SEND_S_MAX: Final = 15
_LOOK_S: Final = 1.0


def terms(settings: MonitoringSettings) -> Terms:
    """How it is evaluated, from the settings."""
    return Terms(settings.evaluation_days, round(settings.label_delay_days * DAY_MS), settings.alerts_per_day_max)


def run_evaluator(settings: MonitoringSettings) -> int:
    """Evaluate until stopped; return the exit code."""
    log = configure_logging(settings, "evaluator")

    def run(stop: threading.Event) -> None:
        journal = Journal(settings.evaluation_file, evaluation_store.TABLES, evaluation_store.VERSION)
        consumer = connect(settings.kafka_bootstrap, "evaluator", settings.kafka_away_seconds_max)
        follower = Follower(consumer, journal, evaluator.FOLLOWED, evaluator.STAGE, settings.kafka_away_seconds_max)
        promise_of = Registry(settings.models).promise
        _serve(settings, follower)
        Evaluator(
            follower,
            journal,
            terms(settings),
            promise_of,
            settings.evaluate_every_s,
            delivered_file=settings.delivered_file,
        ).run(stop)
        journal.close()
        consumer.close()

    return _until_stopped(run, settings, log)


def run_watch(settings: MonitoringSettings) -> int:
    """Watch until stopped; return the exit code."""
    log = configure_logging(settings, "watch")
    registry = Registry(settings.models)

    def run(stop: threading.Event) -> None:
        journal = Journal(settings.drift_file(FEATURE_HASH), drift_store.TABLES, drift_store.VERSION)
        consumer = connect(settings.kafka_bootstrap, "drift", settings.kafka_away_seconds_max)
        follower = Follower(consumer, journal, drift_watch.FOLLOWED, drift_watch.STAGE, settings.kafka_away_seconds_max)
        _serve(settings, follower)
        _in_background(stop, "probes", settings.probe_every_s, _probes(settings))
        if settings.parity_every_s:
            _start_parity(stop, settings)
        window_ms = settings.drift_window_hours * HOUR_MS
        asker = _retrain_asker(settings) if settings.drift_retrain else None
        DriftWatch(follower, journal, registry.champion, window_ms, settings.probe_every_s, asker=asker).run(stop)
        journal.close()
        consumer.close()

    return _until_stopped(run, settings, log)


def _start_parity(stop: threading.Event, settings: MonitoringSettings) -> None:
    feed = SwitchFeed(settings.kafka_bootstrap, Side.SERVING, Side.METER)
    feed.start()
    rounds = ParityRounds(settings.parity_sample)
    cadence = Cadence(settings.parity_every_s, lambda: feed.on)
    _in_background(stop, "parity", _LOOK_S, lambda: rounds.round() if cadence.due() else None)


def _retrain_asker(settings: MonitoringSettings) -> RetrainAsker:
    """Sends what drift asks for to `control`, over a connection of its own that is made when it is needed."""

    def send(request: Retrain) -> None:
        with closing(KafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all")) as producer:
            producer.send(topics.CONTROL.name, request.to_json()).get(timeout=_SEND_S_MAX)

    return RetrainAsker(send, round(settings.drift_cool_down_days * DAY_MS))


def _probes(settings: MonitoringSettings) -> Callable[[], None]:
    client = redis.Redis.from_url(settings.redis_url, socket_timeout=3, socket_connect_timeout=3)
    state = state_reader(settings.redis_url)
    probes = (
        StateStoreProbe(client),
        RegistryProbe(Registry(settings.models)),
        LagProbe(settings.kafka_bootstrap, state, settings.partitions, settings.scorer_group),
    )
    return lambda: look_at_all(probes)


def _in_background(stop: threading.Event, name: str, every_s: float, look: Callable[[], None]) -> None:
    """Look every so often, on a thread that ends with the process."""

    def run() -> None:
        while not stop.is_set():
            try:
                look()
            except Exception:
                structlog.get_logger(name).exception("the look failed; the next one follows")
            stop.wait(every_s)

    threading.Thread(target=run, name=name, daemon=True).start()


def _serve(settings: StackSettings, follower: Follower) -> None:
    serve_metrics(settings, follower.health)
    settle_garbage()


def _until_stopped(
    run: Callable[[threading.Event], None], settings: MonitoringSettings, log: structlog.stdlib.BoundLogger
) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        run(stop)
    except JournalRefusedError as error:
        log.error(str(error))
        return EXIT_PERSON
    except (KafkaError, KafkaAwayError, ConsumerStuckError) as error:
        log.error(f"Kafka at {settings.kafka_bootstrap}: {error!r}")
        return EXIT_RESTART
    except Exception:
        log.exception("ended for a restart")
        return EXIT_RESTART
    log.info("stopped")
    return 0
