"""Time, as the policies see it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Clocks and patience: tests put their own in its place.

    Retry n waits a random part of `backoff_s` * 2**n seconds, `backoff_max_s` at most. A server
    that says nothing but "too many requests" is given up after `patience_s` seconds, or sooner when
    it wants to be left alone for longer than that. When a backend is given up, requests under way
    have `grace_s` seconds to be answered. `clock` never jumps, whatever is done to the time of day.
    """

    backoff_s: float = 1.0
    backoff_max_s: float = 30.0
    patience_s: float = 600.0
    grace_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    rng: Callable[[], float] = random.random

    def wait_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """How long to wait after that many failures, in seconds: after none, what the server says."""
        least = min(retry_after_s or 0.0, self.patience_s)
        if not failures:
            return least
        # 2**30 s is longer than any run; a larger power would overflow.
        most = min(self.backoff_max_s, self.backoff_s * 2 ** min(failures - 1, 30))
        # Jitter on top of what the server asks for: else all come back at the same moment.
        return least + self.rng() * most


PACE = Pace()
