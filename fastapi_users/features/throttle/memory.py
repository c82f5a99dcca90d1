import math
import time
from dataclasses import dataclass
from heapq import heappop, heappush


@dataclass
class _Counter:
    """``looked_at`` is when the heap comes to it: not after its end, which may have been put off since."""

    count: int
    ends: float
    looked_at: float


class MemoryStorage:
    """The counters of a single process.

    That of the library ``limits`` looks through all of its counters at every hit, which with a hundred thousand of them
    takes ten milliseconds: an attacker with many addresses would stop the application by being counted.
    """

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}
        self._ends: list[tuple[float, str]] = []
        """A heap. Of a key, the time that its counter knows counts: others are left over from before."""

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = time.time()
        self._drop_ended(now)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = _Counter(0, now, math.inf)
        counter.count += amount
        if counter.count == amount:  # the first one, or the first after all were taken back
            counter.ends = now + expiry
            if counter.ends < counter.looked_at:
                self._look_when_it_ends(key, counter)
        return counter.count

    async def get(self, key: str) -> int:
        counter = self._counters.get(key)
        return 0 if counter is None or counter.ends <= time.time() else counter.count

    async def get_expiry(self, key: str) -> float:
        counter = self._counters.get(key)
        return time.time() if counter is None or counter.count <= 0 else counter.ends

    async def clear(self, key: str) -> None:
        if key in self._counters:
            self._counters[key].count = 0

    def _drop_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            looked_at, key = heappop(self._ends)
            counter = self._counters.get(key)
            if counter is None or counter.looked_at != looked_at:
                continue
            if counter.ends <= now:
                del self._counters[key]
            else:
                self._look_when_it_ends(key, counter)

    def _look_when_it_ends(self, key: str, counter: _Counter) -> None:
        counter.looked_at = counter.ends
        heappush(self._ends, (counter.ends, key))
