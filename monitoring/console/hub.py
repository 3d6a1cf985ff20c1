"""The hub: what the console knows now, and the stream that tells it.

Rule 1. State changes on the event loop's thread only; the reader and the probes hand over what they have found.
Rule 2. A change and its frame are one step, so that a browser that joins misses nothing and gets nothing twice.
Rule 3. Nobody looks most of the time: then state is kept, and no frame is made.
Rule 4. Alerts of one poll are a few frames: a burst costs a browser one redraw, and no frame is large.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from fraud import packed, topics
from fraud.alert import alert_id_of, parse_alert
from fraud.control import parse_control_request
from fraud.dead_letters import BadMessageError
from fraud.decision import APPROVE
from fraud.disposition import parse_disposition
from fraud.truth import parse_truth
from monitoring.console.alert_book import AlertBook, Entry, Told
from monitoring.console.dead_letters import DeadLetters
from monitoring.console.stream import RETRY_MS, Stream, frame
from monitoring.console.system_alerts import SystemAlerts, Webhook
from monitoring.console.timeline import Timeline

ALERTS_OF_FRAME_MAX: Final = 200
OTHER_SCORES: Final = ("rules_score", "challenger_score", "batch_score")
_DEAD_LETTERS: Final = ".dlq"

log = structlog.get_logger("console")


class _Label(msgspec.Struct):
    """The fields of a label that matter here."""

    transaction_id: str
    is_fraud: bool
    source: str
    known_at_ms: int


_decode_label = msgspec.json.Decoder(_Label).decode


class Hub:
    """State and stream of one console."""

    def __init__(self, kept: int, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.book = AlertBook(kept)
        self.timeline = Timeline()
        self.dead_letters = DeadLetters()
        self.system_alerts = SystemAlerts(wall_ms=wall_ms)
        self.stream = Stream()
        self.pulse: dict[str, Any] = {}
        self.training: list[dict[str, str]] = []
        self._wall_ms = wall_ms
        self._taken: dict[str, Callable[[Any], None]] = {
            topics.ALERTS.name: self._alert,
            topics.LABELS.name: self._label,
            topics.DISPOSITIONS.name: self._disposition,
            topics.SCORES.name: self._scores,
            topics.CONTROL.name: self._control,
            topics.TRUTH.name: self._truth,
        }
        self._fresh: list[Entry] = []
        self._news_of: list[str] = []
        self._letters: list[dict[str, Any]] = []
        self._steered = False

    def take(self, records: Sequence[Any]) -> None:
        """Take what the reader has polled, and tell it."""
        for record in records:
            try:
                if record.topic.endswith(_DEAD_LETTERS):
                    self._letters.append(self.dead_letters.add(record))
                else:
                    self._taken[record.topic](record)
            except (BadMessageError, msgspec.DecodeError) as error:
                log.warning("message ignored", topic=record.topic, offset=record.offset, why=str(error))
        if self.stream.readers:
            self._tell()
        self._fresh, self._news_of, self._letters, self._steered = [], [], [], False

    def beat(self, pulse: dict[str, Any]) -> None:
        """Tell the pulse: vital signs, clock and runs."""
        self.pulse = {**pulse, "wall_ms": self._wall_ms(), "world": self.timeline.values(self._wall_ms())}
        if self.stream.readers:
            self.stream.put(frame("pulse", self.pulse))

    def train(self, step: dict[str, str]) -> None:
        """Take a step of a training's progress, and tell it."""
        self.training = [*self.training, step][-200:]
        self.stream.put(frame("training", step))

    def alertmanager(self, message: Webhook) -> None:
        """Take what Alertmanager says, and tell it."""
        self.system_alerts.take(message)
        self.stream.put(frame("system-alerts", self.system_alerts.values()))

    def greeting(self, last_event_id: str | None) -> bytes:
        """What a browser gets first."""
        resumed = self.book.since(last_event_id)
        values = {
            "reset": resumed.from_scratch,
            "lost": resumed.lost,
            "alerts": [self.book.values(entry) for entry in resumed.entries],
            # Labels and verdicts that came meanwhile are about alerts that the browser has already.
            "known": [] if resumed.from_scratch else self.book.judged(),
            "training": self.training,
            "system_alerts": self.system_alerts.values(),
            "pulse": {**self.pulse, "world": self.timeline.values(self._wall_ms())} if self.pulse else None,
        }
        return frame("hello", values, self.book.place(), RETRY_MS)

    def _tell(self) -> None:
        for first in range(0, len(self._fresh), ALERTS_OF_FRAME_MAX):
            part = self._fresh[first : first + ALERTS_OF_FRAME_MAX]
            # Only the last moves the place: a browser that is cut off in between gets all of them again, and knows them.
            is_last = first + ALERTS_OF_FRAME_MAX >= len(self._fresh)
            values = {"alerts": [self.book.values(entry) for entry in part]}
            self.stream.put(frame("alerts", values, self.book.place() if is_last else None), len(part))
        if self._news_of and (known := self.book.known(dict.fromkeys(self._news_of))):
            self.stream.put(frame("known", {"known": known}))
        if self._letters:
            self.stream.put(frame("dead-letters", {"dead_letters": self._letters[-50:]}))
        if self._steered:
            self.stream.put(frame("world", self.timeline.values(self._wall_ms())))

    def _alert(self, record: Any) -> None:
        alert = parse_alert(record.value)
        self.timeline.alert(alert)
        entry = self.book.add(alert, record.partition, record.offset)
        if entry is not None:
            self._fresh.append(entry)

    def _label(self, record: Any) -> None:
        label = _decode_label(record.value or b"")
        if self.book.label(label.transaction_id, Told(label.is_fraud, label.source, label.known_at_ms)):
            self._news_of.append(label.transaction_id)

    def _disposition(self, record: Any) -> None:
        disposition = parse_disposition(record.value)
        if self.book.verdict(disposition):
            self._news_of.append(disposition.transaction_id)

    def _scores(self, record: Any) -> None:
        if not packed.peek(record.value, packed.SCORES, "decision").any():
            return  # all of it was approved: no alert is among them
        batch = packed.unpack(record.value, (packed.SCORES,))
        # What decided stands in the alert already.
        decided = f"{batch.meta.get('model_version')}_score"
        names = [name for name in OTHER_SCORES if name in batch.columns and name != decided]
        for row in (batch.array("decision") != APPROVE).nonzero()[0].tolist():
            alert_id = alert_id_of(int(batch.array("origin_partition")[row]), int(batch.array("origin_offset")[row]))
            found = {name.removesuffix("_score"): float(batch.array(name)[row]) for name in names}
            # A score that is not there is NaN, which JSON does not have.
            if self.book.other_scores(alert_id, {name: value for name, value in found.items() if value == value}):
                self._news_of.append(batch.text("transaction_id")[row])

    def _control(self, record: Any) -> None:
        self.timeline.control(parse_control_request(record.value), record.timestamp, record.offset)
        self._steered = True

    def _truth(self, record: Any) -> None:
        self.timeline.truth(parse_truth(record.value))
