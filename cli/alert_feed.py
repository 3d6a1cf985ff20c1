"""Alerts and their labels, as they come.

Rule 1. An alert that was written again after a crash is shown once: its id, which is its origin, is remembered. (Alerts of one
        card partition come from several scorer lanes, so their origins do not ascend: a mark would not do.)
Rule 2. A label counts once per alert; only alerts that this feed has given can get one. It remembers ALERTS_KEPT_MAX of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from kafka import KafkaConsumer

from cli.reader import begin
from fraud import topics
from fraud.alert import Alert, parse_alert
from fraud.dead_letters import BadMessageError

ALERTS_KEPT_MAX: Final = 20_000
ALERTS_REMEMBERED_MAX: Final = 200_000
_POLL_RECORDS_MAX: Final = 5_000


class _KnownLabel(msgspec.Struct):
    """The two fields of a label that matter here."""

    transaction_id: str
    is_fraud: bool


_decode_label = msgspec.json.Decoder(_KnownLabel).decode


@dataclass(slots=True)
class ShownAlert:
    """An alert and what became known of it. is_fraud: None until its label has come. raw: the message."""

    alert: Alert
    raw: bytes
    is_fraud: bool | None = None


class AlertFeed:
    """Reads `alerts` and `labels` of a connected consumer."""

    def __init__(self, consumer: KafkaConsumer, from_start: bool) -> None:
        self._consumer = consumer
        names = [topics.ALERTS.name, topics.LABELS.name]
        begin(consumer, **{"from_start" if from_start else "from_end": names})
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.shown: OrderedDict[str, ShownAlert] = OrderedDict()
        self.alerts = 0
        self.labelled = 0
        self.fraud = 0

    def poll(self, timeout_s: float) -> Iterator[ShownAlert]:
        """What is new: each alert once when it comes, and once more when its label does."""
        polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=_POLL_RECORDS_MAX)
        batches = sorted(polled.items(), key=lambda item: item[0].topic != topics.ALERTS.name)  # alerts before labels
        for partition, records in batches:
            for record in records:
                take = self._alert if partition.topic == topics.ALERTS.name else self._label
                if (shown := take(record.value)) is not None:
                    yield shown

    @property
    def precision(self) -> float | None:
        """Share of fraud among the alerts whose label is known."""
        return self.fraud / self.labelled if self.labelled else None

    def _alert(self, raw: bytes | None) -> ShownAlert | None:
        try:
            alert = parse_alert(raw)
        except BadMessageError:
            return None
        if alert.alert_id in self._seen:
            return None
        self._seen[alert.alert_id] = None
        if len(self._seen) > ALERTS_REMEMBERED_MAX:
            self._seen.popitem(last=False)
        self.alerts += 1
        self.shown[alert.transaction_id] = shown = ShownAlert(alert, raw or b"")
        if len(self.shown) > ALERTS_KEPT_MAX:
            self.shown.popitem(last=False)
        return shown

    def _label(self, raw: bytes | None) -> ShownAlert | None:
        try:
            label = _decode_label(raw or b"")
        except msgspec.DecodeError:
            return None
        shown = self.shown.get(label.transaction_id)
        if shown is None or shown.is_fraud is not None:
            return None
        shown.is_fraud = label.is_fraud
        self.labelled += 1
        self.fraud += label.is_fraud
        return shown
