"""`fraudstream alerts confirm | dismiss`: a person's verdict on an alert.

Rule 1. A verdict is about an alert that the log has; it is named by its id or by its transaction's.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final, Literal

from kafka import KafkaConsumer, KafkaProducer

from adapters.settings import StackSettings
from cli.failure import CommandError
from cli.reader import begin, connected
from fraud import topics
from fraud.alert import Alert, parse_alert
from fraud.dead_letters import BadMessageError
from fraud.disposition import Disposition

_READ_S_MAX: Final = 60.0
_SEND_S_MAX: Final = 30.0


def dispose(named: str, verdict: Literal["confirmed", "dismissed"]) -> int:
    """Send the verdict; return the exit code. Raises CommandError when there is no such alert."""
    settings = StackSettings.read()
    with connected(settings.kafka_bootstrap) as consumer:
        alert = _find(consumer, named)
    disposition = Disposition(
        alert.transaction_id,
        alert.card_id,
        alert.terminal_id,
        alert.occurred_at_ms,
        verdict,
        time.time_ns() // 1_000_000,
    )
    with closing(KafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all")) as producer:
        producer.send(topics.DISPOSITIONS.name, disposition.to_json(), alert.transaction_id.encode()).get(_SEND_S_MAX)
    print(f"{alert.transaction_id} {verdict}: it becomes a label while the world is live")
    return 0


def _find(consumer: KafkaConsumer, named: str) -> Alert:
    begin(consumer, from_start=[topics.ALERTS.name])
    ends = consumer.end_offsets(list(consumer.assignment()))
    deadline_s = time.monotonic() + _READ_S_MAX
    while any(consumer.position(place) < end for place, end in ends.items()):
        if time.monotonic() > deadline_s:
            raise CommandError(f"the alerts could not be read within {_READ_S_MAX:.0f} s: try again")
        for records in consumer.poll(timeout_ms=200, max_records=5000).values():
            for record in records:
                try:
                    alert = parse_alert(record.value)
                except BadMessageError:
                    continue
                if named in (alert.alert_id, alert.transaction_id):
                    return alert
    raise CommandError(f"the log has no alert {named}: `fraudstream alerts watch --from-start --json` lists them", 2)
