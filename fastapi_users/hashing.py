"""Where passwords are hashed: in a few threads of our own, beside the event loop, behind a queue that ends somewhere."""

import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from enum import Enum
from functools import partial
from time import perf_counter
from typing import Any, TypeVar, cast

import anyio
import anyio.lowlevel
from fastapi import HTTPException, status
from pydantic import BaseModel

from fastapi_users.openapi import OpenAPIResponseType

R = TypeVar("R")

_IDLE_SECONDS = 10.0
_FIRST_GUESS_SECONDS = 0.1
_WEIGHT_OF_THE_LAST = 0.1


class HashingErrorCode(str, Enum):
    HASHING_QUEUE_FULL = "HASHING_QUEUE_FULL"


class HashingQueueFullModel(BaseModel):
    detail: str


class HashingQueueFull(HTTPException):
    """503. More passwords wait to be hashed than could be before their senders give up."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            status.HTTP_503_SERVICE_UNAVAILABLE,
            HashingErrorCode.HASHING_QUEUE_FULL,
            headers={"Retry-After": str(retry_after)},
        )


HASHING_RESPONSES: OpenAPIResponseType = {
    status.HTTP_503_SERVICE_UNAVAILABLE: {
        "model": HashingQueueFullModel,
        "description": "Too many passwords wait to be hashed. `Retry-After` says when to try again, in seconds.",
        "content": {"application/json": {"example": {"detail": HashingErrorCode.HASHING_QUEUE_FULL.value}}},
    }
}
"""For ``responses=`` of a route that is not one of version 15, whose document stays as it was."""


class _Job:
    """A call that a thread makes, and that somebody in an event loop waits for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._done = anyio.Event()
        self._call_in_loop = _caller_in_this_loop()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 -- of whoever waits
            self._error = error
        with suppress(RuntimeError):  # that loop has ended
            self._call_in_loop(self._done.set)

    async def result(self) -> Any:
        await self._done.wait()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # whose traceback knows this job
        return self._result


def _caller_in_this_loop() -> Callable[[Callable[[], object]], object]:
    """What calls a function in the running event loop, asyncio's or trio's, from another thread."""
    token: Any = anyio.lowlevel.current_token()
    loop = getattr(token, "native_token", token)  # anyio before 4.11 has no tokens of its own
    return cast(
        "Callable[[Callable[[], object]], object]",
        loop.run_sync_soon if hasattr(loop, "run_sync_soon") else loop.call_soon_threadsafe,
    )


class HashingPool:
    """One for the process, whatever event loops it has: set its attributes when the application starts.

    The threads are no executor's, which at the end of the process would first hash what still waits, and not those of
    the application's synchronous routes, which hashes would starve.

    :ivar threads: how many hashes run at once; none at all is a ``ValueError``. By default one for each core that the
        process may use: an argon2 hash takes a core and 64 MiB, so that more would only cost memory.
    :ivar max_waiting_per_thread: how many may wait for each thread: 17 seconds where a hash takes a sixth of one.
        Whoever comes then is refused. ``None``: nobody is.
    :ivar niceness: by how much the threads give way to the event loop. For Linux, where a thread has a priority of its
        own, and for threads that are yet to start.
    """

    def __init__(self) -> None:
        self.threads = _usable_cores()
        self.max_waiting_per_thread: int | None = 100
        self.niceness: int = 5
        self.idle_seconds: float = _IDLE_SECONDS
        self.start_anew()

    @property
    def threads(self) -> int:
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"hashing_pool.threads = {count}: without a thread no password would ever be hashed.")
        self._threads = count

    def start_anew(self) -> None:
        """Without threads. In the child of a fork, which has none of those of its parent."""
        self._changed = threading.Condition()
        self._queue: deque[_Job] = deque()
        self._running = self._busy = 0
        self._seconds = _FIRST_GUESS_SECONDS

    async def run(self, function: Callable[..., R], *args: Any, is_patient: bool = False) -> R:
        """Call it in a thread, with the context variables of the caller, while the event loop goes on.

        If the caller is cancelled before it has begun, it is not called.

        :param is_patient: waits, however many do.
        :raises HashingQueueFull:
        """
        job = _Job(partial(copy_context().run, function, *args))
        self._submit(job, is_patient=is_patient)
        try:
            return cast("R", await job.result())
        except BaseException:
            self._withdraw(job)
            raise

    def refuse_if_full(self) -> None:
        """For who answers before it hashes.

        :raises HashingQueueFull:
        """
        with self._changed:
            self._refuse_if_full()

    def _refuse_if_full(self) -> None:
        waiting = len(self._queue) - (self.threads - self._busy)
        if self.max_waiting_per_thread is not None and waiting >= self.max_waiting_per_thread * self.threads:
            raise HashingQueueFull(max(1, math.ceil(self._seconds * waiting / self.threads)))

    def _submit(self, job: _Job, *, is_patient: bool) -> None:
        with self._changed:
            if not is_patient:
                self._refuse_if_full()
            self._queue.append(job)
            if len(self._queue) > self._running - self._busy and self._running < self.threads:
                self._start_thread(job)
            self._changed.notify()

    def _start_thread(self, job: _Job) -> None:
        # A daemon, since the end of the process waits for no hash.
        thread = threading.Thread(target=self._work, name="fastapi-users-hashing", daemon=True)
        self._running += 1
        try:
            thread.start()
        except RuntimeError:  # the system has no more
            self._running -= 1
            if self._running == 0:
                self._queue.remove(job)
                raise

    def _withdraw(self, job: _Job) -> None:
        with self._changed, suppress(ValueError):  # it has begun
            self._queue.remove(job)

    def _work(self) -> None:
        _give_way(self.niceness)
        while (job := self._next()) is not None:
            started = perf_counter()
            job.run()
            del job  # which knows a password
            with self._changed:
                self._busy -= 1
                self._seconds += (perf_counter() - started - self._seconds) * _WEIGHT_OF_THE_LAST

    def _next(self) -> _Job | None:
        """``None`` when there was nothing to do for a while, or there are more threads than there should be."""
        with self._changed:
            has_come = self._changed.wait_for(lambda: bool(self._queue), self.idle_seconds)
            if has_come and self._running <= self.threads:
                self._busy += 1
                return self._queue.popleft()
            self._running -= 1
            self._changed.notify()  # somebody else, if this was told of a job
            return None


def _usable_cores() -> int:
    """Of the process, which may be fewer than those of the machine."""
    count: Callable[[], int | None] | None = getattr(os, "process_cpu_count", None)  # Python 3.13
    if count is None and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return (count or os.cpu_count)() or 1


def _give_way(niceness: int) -> None:
    """By this much to all other threads of the process."""
    if sys.platform == "linux":  # elsewhere it would be the whole process, or another one
        with suppress(OSError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own + niceness)


hashing_pool = HashingPool()

_at_fork: Callable[..., object] = getattr(os, "register_at_fork", dict)  # Windows has none, and nobody forks there
_at_fork(after_in_child=hashing_pool.start_anew)
