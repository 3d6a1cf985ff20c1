"""The init step: makes every topic of fraud.topics before any service starts. `python -m adapters.init_topics`

Rule 1. It may run again at any time: topics that exist with the right partitions are left alone.
Rule 2. It ends within its deadline: 0 all topics exist, 1 no broker answered in time, 2 the settings contradict the broker.
"""

from __future__ import annotations

import sys
from typing import Final

import stamina
from kafka.errors import KafkaError

from adapters.kafka_admin import TopicMismatchError, ensure_topics
from adapters.settings import StackSettings
from fraud import topics

BROKER_WAIT_S: Final = 90.0


def made_topics(bootstrap: str, partitions: int, wait_s: float) -> list[str]:
    """Make the missing topics, waiting up to `wait_s` seconds for a broker; return their names.

    Raises TopicMismatchError, or the last KafkaError when the deadline is over.
    """
    for attempt in stamina.retry_context(on=KafkaError, attempts=None, timeout=wait_s, wait_initial=0.5, wait_max=2.0):
        with attempt:
            return ensure_topics(bootstrap, partitions)
    raise AssertionError("retry_context returns or raises")


def main() -> int:
    """Run the init step with the environment's settings; return the exit code."""
    settings = StackSettings.read()
    try:
        made = made_topics(settings.kafka_bootstrap, settings.partitions, BROKER_WAIT_S)
    except TopicMismatchError as error:
        print(error, file=sys.stderr)
        return 2
    except KafkaError as error:
        print(
            f"no broker at {settings.kafka_bootstrap} within {BROKER_WAIT_S:.0f} s ({error}): "
            "start Kafka, or set FRAUD_KAFKA_BOOTSTRAP to where it listens",
            file=sys.stderr,
        )
        return 1
    print(f"topics: {len(made)} made, {len(topics.ALL) - len(made)} were there; partitions {settings.partitions}")
    for name in made:
        print(f"  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
