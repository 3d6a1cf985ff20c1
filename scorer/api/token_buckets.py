"""The rate limit: one token bucket per client.

Rule 1. A client holds at most `burst` tokens and gains `rate_per_s` of them a second; a request costs one.
Rule 2. At most CLIENTS_MAX clients are remembered; who has not asked for longest is forgotten, and begins anew with a full bucket.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

CLIENTS_MAX: Final = 10_000


class TokenBuckets:
    """rate_per_s: 0 lets everything pass."""

    def __init__(self, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted

    def wait_s(self, client: str) -> float:
        """Take a token: 0 when there was one, else the seconds until there is one, and nothing is taken."""
        if not self._rate_per_s:
            return 0.0
        now = self._clock()
        tokens, at = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate_per_s)
        passes = tokens >= 1.0
        self._buckets[client] = (tokens - 1.0 if passes else tokens, now)
        if len(self._buckets) > CLIENTS_MAX:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1.0 - tokens) / self._rate_per_s
