"""Requests to a server over the loopback, from this process: as fast as clients get answers, or at fixed times."""

import asyncio
import os
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from types import MappingProxyType
from urllib.parse import urlencode

from benchmarks.harness import Side

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Client:
    """One connection that is kept, with as little of HTTP as uvicorn's answers need: their bodies have a length."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[StreamReader, StreamWriter] | None = None

    async def get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        return await self._exchange(f"GET {path}", headers or {}, b"")

    async def post(self, path: str, *, form: dict[str, str] | None = None, json: str = "") -> bytes:
        kind = "application/x-www-form-urlencoded" if form is not None else "application/json"
        body = urlencode(form) if form is not None else json
        return await self._exchange(f"POST {path}", {"content-type": kind}, body.encode())

    async def _exchange(self, start: str, headers: dict[str, str], body: bytes) -> bytes:
        """The body of the answer. Others than 2xx are errors: a load of refusals measures nothing."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = [f"{start} HTTP/1.1", "host: bench.test", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        answer = await reader.readexactly(int(length.partition(b":")[2]))
        if head.split(b" ", 2)[1][:1] != b"2":
            raise RuntimeError(f"{start}: {head.decode()}{answer.decode()}")
        return answer

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


Work = Callable[[Client, int], Awaitable[object]]
"""What a client does again and again. The number says which client it is."""


async def closed_loop(port: int, work: Work, *, clients: int, seconds: float) -> float:
    """How often a second all clients together got it done. Each begins again when it is answered."""
    start = time.perf_counter()
    done = 0

    async def run(number: int) -> None:
        nonlocal done
        client = Client(port)
        while time.perf_counter() < start + seconds:
            await work(client, number)
            done += 1
        await client.close()

    await asyncio.gather(*(run(number) for number in range(clients)))
    return done / (time.perf_counter() - start)


async def paced(port: int, work: Work, *, rate: float, clients: int, seconds: float) -> list[float]:
    """Seconds until each was done, from the moment at which it was due, whether or not a client was free by then.

    So a server that stands still is not asked less often for it (Tene, "How NOT to Measure Latency").
    """
    start = time.perf_counter()
    due = iter([start + number / rate for number in range(max(1, int(rate * seconds)))])
    taken: list[float] = []

    async def run(number: int) -> None:
        client = Client(port)
        for moment in due:
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            await work(client, number)
            taken.append(time.perf_counter() - moment)
        await client.close()

    await asyncio.gather(*(run(number) for number in range(clients)))
    return taken


def percentile(values: list[float], hundredth: int) -> float:
    return quantiles(values, n=100, method="inclusive")[hundredth - 1] if len(values) > 1 else values[0]


@dataclass
class Server:
    port: int
    pid: int

    def processes(self) -> list[int]:
        """Itself and its workers."""
        return [self.pid, *_descendants(self.pid)]


@asynccontextmanager
async def server(side: Side, *, database: str, redis_url: str | None, workers: int = 1) -> AsyncIterator[Server]:
    """The application of the benchmark under uvicorn, on the loopback."""
    settings = {"BENCHMARK_DATABASE": database} | ({"BENCHMARK_REDIS": redis_url} if redis_url else {})
    options = ["--factory", "--workers", str(workers)]
    async with serving(
        side, "benchmarks.application:make_app", *options, folder=side.folder, probe="/ping", settings=settings
    ) as running:
        yield running


@asynccontextmanager
async def serving(
    side: Side,
    application: str,
    *options: str,
    folder: Path,
    probe: str,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Server]:
    """An application under uvicorn, started in this folder. ``probe`` is the path of what anybody may read."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [side.python, "-m", "uvicorn", application, "--port", str(port), *options]
    command += ["--no-access-log", "--log-level", "warning"]
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env={**side.environment, **settings})
    try:
        await _answering(process, port, probe)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _answering(process: asyncio.subprocess.Process, port: int, probe: str) -> None:
    while process.returncode is None:
        if await _is_open(port, probe):
            return
        await asyncio.sleep(0.1)
    raise RuntimeError("the server has ended")


async def _is_open(port: int, probe: str) -> bool:
    try:
        client = Client(port)
        await client.get(probe)
    except OSError:
        return False
    await client.close()
    return True


# Where there is /proc, a process tells its CPU time and its memory.


def _descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [process for child in children for process in (child, *_descendants(child))]


def cpu_seconds(processes: list[int]) -> float:
    """User and system time so far. Those that have ended count no more."""
    ticks = 0
    for process in processes:
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except FileNotFoundError:
            continue
        ticks += sum(int(value) for value in stat.rpartition(")")[2].split()[11:13])
    return ticks / _TICKS_PER_SECOND


def peak_mebibytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024
