"""When most of what arrives is refused, something is wrong upstream: stop instead of eating the stream."""

from __future__ import annotations

from collections import deque


class DeadLetterFloodError(RuntimeError):
    """Too large a share of the newest records was refused; nothing of the batch that showed it was written."""


class FloodGuard:
    """Watches the share of dead letters among the newest records.

    share_max: in (0, 1]; 1 lets everything pass. records_min: the smallest number of records that is judged.
    """

    def __init__(self, topic: str, share_max: float, records_min: int) -> None:
        self._topic = topic
        self._share_max = share_max
        self._records_min = records_min
        self._batches: deque[tuple[int, int]] = deque()
        self._records = 0
        self._refused = 0

    def admit(self, records: int, refused: int) -> None:
        """Count one batch. Raises DeadLetterFloodError when the share is above `share_max`."""
        self._batches.append((records, refused))
        self._records += records
        self._refused += refused
        while self._records - self._batches[0][0] >= self._records_min:
            old_records, old_refused = self._batches.popleft()
            self._records -= old_records
            self._refused -= old_refused
        if self._records >= self._records_min and self._refused > self._share_max * self._records:
            raise DeadLetterFloodError(
                f"{self._refused} of the newest {self._records} records of {self._topic} would be dead letters, "
                f"more than the share {self._share_max}: mend the sender, or let them pass with "
                "FRAUD_DEAD_LETTER_SHARE_MAX=1"
            )
