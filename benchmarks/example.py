"""What an application of examples/ does under uvicorn, as it stands: logins, and reads with their token."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness import Bench, Figure, Side
from benchmarks.load import Client, Server, Work, closed_loop, paced, percentile, serving

APPLICATION = "examples.minimal.main:app"
CLIENTS = 8
READS_PER_SECOND = 50.0
EMAIL, PASSWORD = "ann@example.org", "correct horse battery staple"


@asynccontextmanager
async def running(side: Side) -> AsyncIterator[Server]:
    """In a folder of its own, since the example keeps its database where it is started."""
    with TemporaryDirectory() as folder:
        async with serving(side, APPLICATION, folder=Path(folder), probe="/openapi.json") as server:
            yield server


async def log_in(client: Client, number: int) -> str:
    answer = json.loads(await client.post("/auth/login", form={"username": EMAIL, "password": PASSWORD}))
    token: str = answer["access_token"]
    return token


async def reader(port: int) -> Work:
    """Somebody who has registered and logged in, as a visitor of the example does."""
    client = Client(port)
    await client.post("/auth/register", json=json.dumps({"email": EMAIL, "password": PASSWORD}))
    headers = {"authorization": f"Bearer {await log_in(client, 0)}"}
    await client.close()

    async def read(client: Client, number: int) -> None:
        assert EMAIL in (await client.get("/hello", headers)).decode()

    return read


async def measure(bench: Bench) -> list[Figure]:
    clients, seconds = bench.scaled((CLIENTS, 4.0), (2, 0.05))
    reads = Figure(f"examples/minimal, {clients} clients read, a second", unit="/s")
    logins = Figure(f"examples/minimal, {clients} clients log in, a second", unit="/s")
    wait = Figure(f"examples/minimal, a read while {clients} clients log in, p50 ÷ idle")
    for side in itertools.islice(bench.turns(), len(bench.sides) * min(bench.rounds, 3)):
        async with running(side) as server:
            read = await reader(server.port)
            rate = await closed_loop(server.port, read, clients=clients, seconds=seconds)
            reads.add(side.name, rate, absolute=rate)
            idle = await paced(server.port, read, rate=READS_PER_SECOND, clients=clients, seconds=seconds)
            rate, busy = await asyncio.gather(
                closed_loop(server.port, log_in, clients=clients, seconds=seconds),
                paced(server.port, read, rate=READS_PER_SECOND, clients=clients, seconds=seconds),
            )
            logins.add(side.name, rate, absolute=rate)
            wait.add(side.name, percentile(busy, 50) / percentile(idle, 50))
    return [reads, logins, wait]
