"""What one and two workers do, and the formula of docs/deployment.md at a measured point: ours, on PostgreSQL and Redis.

Server, database and clients share the cores of this machine, so the rates are less than what a server of its own gives.
The CPU time of a process depends little on what else runs: the formula is made of that.
"""

import asyncio
import os
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import URL, event, text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks import application, databases, read
from benchmarks.application import PASSWORD
from benchmarks.harness import OURS, Bench, Figure
from benchmarks.hashing import CLIENTS, USERS, log_in, ping, seed
from benchmarks.load import Client, Server, Work, closed_loop, cpu_seconds, paced, peak_mebibytes, server
from fastapi_users.password import PasswordHelper

READERS = 16
BACKENDS = {"jwt": "JWT", "database": "database token", "redis": "Redis token"}
# Where the formula is checked: less than two cores can do, so that nothing waits for a core.
LOGINS_PER_SECOND = 3.0
READS_PER_SECOND = 100.0
MEBIBYTES_PER_HASH = 64

# In the process of a side.


async def hash_seconds(times: int) -> float:
    """CPU seconds of one verification, while as many run as there are cores."""
    helper = PasswordHelper()
    hashed_password = helper.hash(PASSWORD)
    start = time.process_time()
    with ThreadPoolExecutor(_cores()) as pool:
        list(pool.map(lambda _: helper.verify_and_update(PASSWORD, hashed_password), range(times)))
    return (time.process_time() - start) / times


async def statements(database: str, redis_url: str | None, names: list[str]) -> list[int]:
    """How many each of these cases sends to the database."""
    await read.prepare(database, redis_url, PasswordHelper().hash(PASSWORD))
    counts = []
    sent: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(application.connections.engine.sync_engine, "before_cursor_execute", count)
    for name in names:
        await read.repeat(name, "library", 1)
        sent.clear()
        await read.repeat(name, "library", 1)
        counts.append(len(sent))
    await read.finish()
    return counts


def _cores() -> int:  # as many hashes run at a time
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# The part.


def reading(name: str, headers: dict[str, str]) -> Work:
    sent = {"cookie" if name == "database" else "authorization": headers[name]}

    async def protected(client: Client, number: int) -> None:
        await client.get(f"/{name}/protected", sent)

    return protected


async def _backends_of(url: URL) -> list[int]:
    """The processes of PostgreSQL that serve this database, which have to be of this machine."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        processes = [*await connection.scalars(text(others))]
    await engine.dispose()
    return processes


async def _cpu_of(work: Awaitable[Any], running: Server, url: URL) -> float:
    """CPU seconds of the workers and of the database, until the work is done."""
    processes = [*running.processes(), *await _backends_of(url)]
    before = cpu_seconds(processes)
    await work
    return cpu_seconds(processes) - before


async def measure(bench: Bench) -> list[Figure]:
    if "PostgreSQL" not in await databases.available():
        return []
    redis_url = databases.redis_url()
    figures = []
    async with databases.postgresql(OURS) as url:
        address = url.render_as_string(hide_password=False)
        async with bench.ours.running():
            headers = await bench.ours.call(seed, address, USERS)
        for workers in bench.scaled((1, 2), (2,)):
            figures += await _rates(bench, address, redis_url, headers, workers)
        figures += await _check(bench, url, redis_url, headers)
    return figures


async def _rates(
    bench: Bench, address: str, redis_url: str | None, headers: dict[str, str], workers: int
) -> list[Figure]:
    loads: dict[str, tuple[Work, int]] = {"logins": (log_in, bench.scaled(CLIENTS, 2))}
    loads |= {f"reads, {BACKENDS[name]}": (reading(name, headers), READERS) for name in BACKENDS if name in headers}
    figures = {name: Figure(f"{name}, {workers} worker{'s' * (workers > 1)}", unit="/s") for name in loads}
    async with server(bench.ours, database=address, redis_url=redis_url, workers=workers) as running:
        for work, clients in loads.values():
            await closed_loop(running.port, work, clients=clients, seconds=bench.scaled(1.0, 0.01))
        for _ in range(min(bench.rounds, 5)):
            for name, (work, clients) in loads.items():
                rate = await closed_loop(running.port, work, clients=clients, seconds=bench.scaled(3.0, 0.05))
                figures[name].add(OURS, rate)
    return [*figures.values()]


async def _check(bench: Bench, url: URL, redis_url: str | None, headers: dict[str, str]) -> list[Figure]:
    """What a request, a statement and a hash cost, what the formula makes of it, and what the mix of them costs indeed."""
    async with databases.postgresql("statements") as empty, bench.ours.running():
        address = empty.render_as_string(hide_password=False)
        of_jwt, of_row = await bench.ours.call(statements, address, None, ["JWT", "database token"])
    costs = {name: Figure(f"CPU of a {name}", unit=" ms") for name in ("request", "statement", "hash")}
    cores = {name: Figure(f"cores, {name}") for name in ("predicted", "measured", "measured ÷ predicted")}
    seconds = bench.scaled(10.0, 0.3)
    reads = READS_PER_SECOND * seconds

    async def at_rate(work: Work, rate: float, clients: int) -> None:
        await paced(running.port, work, rate=rate, clients=clients, seconds=seconds)

    async with bench.ours.running():
        for _ in range(min(bench.rounds, 3)):
            address = url.render_as_string(hide_password=False)
            async with server(bench.ours, database=address, redis_url=redis_url) as running:
                # So that every connection is there, and what the first login of a process makes.
                await closed_loop(
                    running.port, reading("jwt", headers), clients=READERS, seconds=bench.scaled(1.0, 0.01)
                )
                await closed_loop(running.port, log_in, clients=1, seconds=0.01)

                bare = await _cpu_of(at_rate(ping, READS_PER_SECOND, READERS), running, url) / reads
                by_jwt = at_rate(reading("jwt", headers), READS_PER_SECOND, READERS)
                statement = (await _cpu_of(by_jwt, running, url) / reads - bare) / of_jwt
                hashing = await bench.ours.call(hash_seconds, bench.scaled(20, 1))
                login = bare + statement + hashing
                predicted = LOGINS_PER_SECOND * login + READS_PER_SECOND * (bare + of_row * statement)

                mix = asyncio.gather(
                    at_rate(log_in, LOGINS_PER_SECOND, CLIENTS),
                    at_rate(reading("database", headers), READS_PER_SECOND, READERS),
                )
                measured = await _cpu_of(mix, running, url) / seconds
            for figure, value in zip(costs.values(), (bare, statement, hashing), strict=True):
                figure.add(OURS, value * 1000)
            for figure, value in zip(cores.values(), (predicted, measured, measured / predicted), strict=True):
                figure.add(OURS, value)
        memory = await _memory(bench, url, redis_url, headers)
    counted = [
        Figure(f"statements of a read, {name}", {OURS: [count]})
        for name, count in (("JWT", of_jwt), ("database token", of_row))
    ]
    return [*counted, *costs.values(), *cores.values(), *memory]


async def _memory(bench: Bench, url: URL, redis_url: str | None, headers: dict[str, str]) -> list[Figure]:
    async with server(bench.ours, database=url.render_as_string(hide_password=False), redis_url=redis_url) as running:
        await closed_loop(running.port, reading("jwt", headers), clients=READERS, seconds=bench.scaled(1.0, 0.01))
        before = peak_mebibytes(running.pid)
        await closed_loop(running.port, log_in, clients=bench.scaled(CLIENTS, 2), seconds=bench.scaled(5.0, 0.1))
        after = peak_mebibytes(running.pid)
    predicted = MEBIBYTES_PER_HASH * _cores()
    return [
        Figure("memory of a worker that reads", {OURS: [before]}, unit=" MiB"),
        Figure(f"what {CLIENTS} clients that log in add, predicted", {OURS: [predicted]}, unit=" MiB"),
        Figure(f"what {CLIENTS} clients that log in add, measured", {OURS: [after - before]}, unit=" MiB"),
    ]
