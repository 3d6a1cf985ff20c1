"""A flood of dead letters: when most of what arrives is refused, something is wrong upstream, and a service stops.

Rule 1. The share is taken over the newest records and judged only when there are enough of them.
Rule 2. The batch that shows a flood is not written: asking comes before writing.
"""

from __future__ import annotations

from collections import deque


class DeadLetterFloodError(RuntimeError):
    """Too large a share of the newest records was refused; the message names the topic and the remedy."""


class FloodGuard:
    """Watches the share of refused records among the newest `records_min` or a little more.

    share_max: in (0, 1], the largest share that may pass; 1 lets everything pass.
    """

    def __init__(self, topic: str, share_max: float, records_min: int) -> None:
        self._topic = topic
        self._share_max = share_max
        self._records_min = records_min
        self._batches: deque[tuple[int, int]] = deque()
        self._records = 0
        self._refused = 0

    def admit(self, records: int, refused: int) -> None:
        """Count one batch. Raises DeadLetterFloodError when more than `share_max` of the newest records are refused."""
        self._batches.append((records, refused))
        self._records += records
        self._refused += refused
        while self._records - self._batches[0][0] >= self._records_min:
            records, refused = self._batches.popleft()
            self._records -= records
            self._refused -= refused
        if self._records >= self._records_min and self._refused > self._share_max * self._records:
            raise DeadLetterFloodError(
                f"{self._refused} of the newest {self._records} records of {self._topic} are refused, more than the share "
                f"{self._share_max}: mend who writes {self._topic}, or let them pass with FRAUD_DEAD_LETTER_SHARE_MAX=1"
            )
