import time
from dataclasses import dataclass
from heapq import heappop, heappush


@dataclass
class _Counter:
    count: int
    ends: float


class MemoryStorage:
    """The counters of a single process.

    That of the library ``limits`` looks through all of its counters at every hit, which with a hundred thousand of them
    takes ten milliseconds: an attacker with many addresses would stop the application by being counted.
    """

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}
        self._ends: list[tuple[float, str]] = []
        """A heap, with each key once. Its time may have been put off since."""

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = time.time()
        self._drop_ended(now)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = _Counter(0, now + expiry)
            heappush(self._ends, (counter.ends, key))
        counter.count += amount
        if counter.count == amount:  # the first one, or the first after all were taken back
            counter.ends = now + expiry
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
            _, key = heappop(self._ends)
            counter = self._counters[key]
            if counter.ends <= now:
                del self._counters[key]
            else:
                heappush(self._ends, (counter.ends, key))
