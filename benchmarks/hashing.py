"""What passwords cost the others: how long the event loop stands still, and how long a ping takes while clients log in."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from benchmarks import application, databases
from benchmarks.application import EMAIL, PASSWORD
from benchmarks.harness import OURS, PEER, Bench, Figure, Side
from benchmarks.load import Client, closed_loop, paced, percentile, server
from fastapi_users.password import PasswordHelper

CLIENTS = 8
PINGS_PER_SECOND = 100.0
USERS = 1 + CLIENTS
_LOOK_SECONDS = 0.005
"""Between two looks for a mail. Without them, clients that wait take a tenth of the cores from the hashes."""
_numbers = itertools.count()

# In the process of a side.


async def _login(client: AsyncClient, username: str = EMAIL, password: str = PASSWORD) -> Response:
    return await client.post("/jwt/login", data={"username": username, "password": password})


async def _register(client: AsyncClient) -> Response:
    return await client.post("/register", json={"email": f"new{next(_numbers)}@example.org", "password": PASSWORD})


async def _forgot(client: AsyncClient) -> Response:
    return await client.post("/forgot-password", json={"email": EMAIL})


async def _reset(client: AsyncClient) -> Response:
    token = (await client.get("/reset-token", params={"email": EMAIL})).json()
    return await client.post("/reset-password", json={"token": token, "password": PASSWORD})


OPERATIONS: dict[str, tuple[Callable[[AsyncClient], Awaitable[Response]], int]] = {
    "login": (_login, 200),
    "login, wrong password": (lambda client: _login(client, password="wrong"), 400),
    "login, unknown user": (lambda client: _login(client, username="nobody@example.org"), 400),
    "register": (_register, 201),
    "forgot-password": (_forgot, 202),
    "reset-password": (_reset, 200),
}


async def _longest_stall(work: Awaitable[Response]) -> tuple[float, Response]:
    """How long the loop did nothing else, at most, while the request was answered."""
    request = asyncio.ensure_future(work)
    longest, last = 0.0, time.perf_counter()
    while not request.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest, await request


async def prepare(database: str) -> None:
    await application.connections.open(database, None)
    await application.seed(PasswordHelper().hash(PASSWORD))


async def stalls() -> dict[str, float]:
    """By operation, in units of the time that one verification takes here and now."""
    helper = PasswordHelper()
    hashed_password = helper.hash(PASSWORD)
    app = FastAPI(openapi_url=None)
    app.include_router(application.make_router())
    measured = {}
    async with AsyncClient(transport=ASGITransport(app), base_url="https://bench.test") as client:
        for name, (operation, status) in OPERATIONS.items():
            start = time.perf_counter()
            helper.verify_and_update(PASSWORD, hashed_password)
            verification = time.perf_counter() - start
            stall, answer = await _longest_stall(operation(client))
            assert answer.status_code == status, answer.text
            measured[name] = stall / verification
    return measured


async def finish() -> None:
    await application.connections.close()


async def seed(database: str, users: int) -> dict[str, str]:
    """For a server: tables and users, and the headers of the first one."""
    await application.connections.open(database, databases.redis_url())
    headers = await application.seed(PasswordHelper().hash(PASSWORD), users)
    await application.connections.close()
    return headers


# Over the network.


def form_of(number: int) -> dict[str, str]:
    return {"username": application.email_of(1 + number), "password": PASSWORD}


async def log_in(client: Client, number: int) -> None:
    await client.post("/jwt/login", form=form_of(number))


async def forget(client: Client, number: int) -> None:
    await client.post("/forgot-password", json=json.dumps({"email": form_of(number)["username"]}))


async def forget_and_reset(client: Client, number: int) -> None:
    token_path = f"/reset-token?email={form_of(number)['username']}"
    await client.get(token_path)  # takes away one that nobody has used
    await forget(client, number)
    while not (token := json.loads(await client.get(token_path))):  # noqa: ASYNC110 -- it may be mailed after the answer
        await asyncio.sleep(_LOOK_SECONDS)
    await client.post("/reset-password", json=json.dumps({"token": token, "password": PASSWORD}))


async def ping(client: Client, number: int) -> None:
    await client.get("/ping")


LOADS = {"log in": log_in, "forget": forget, "forget and reset": forget_and_reset}


async def _under_load(
    side: Side, database: str, *, clients: int, seconds: float
) -> dict[str, tuple[float, list[float]]]:
    """By load: how often a second it was done, and what pings took meanwhile."""
    measured = {}
    async with server(side, database=database, redis_url=None) as running:
        idle = await paced(running.port, ping, rate=PINGS_PER_SECOND, clients=CLIENTS, seconds=seconds)
        measured["idle"] = 0.0, idle
        for name, work in LOADS.items():
            await closed_loop(running.port, work, clients=1, seconds=0.01)  # what the first one of a process makes
            rate, pings = await asyncio.gather(
                closed_loop(running.port, work, clients=clients, seconds=seconds),
                paced(running.port, ping, rate=PINGS_PER_SECOND, clients=CLIENTS, seconds=seconds),
            )
            measured[name] = rate, pings
    return measured


async def measure(bench: Bench) -> list[Figure]:
    stalled = {name: Figure(f"longest stall of the loop, {name} ÷ one hash", target=0.15) for name in OPERATIONS}
    async with databases.sqlite(OURS) as own, databases.sqlite(PEER) as other:
        urls = {OURS: str(own), PEER: str(other)}
        async with bench.running():
            for side in bench.sides:
                await side.call(prepare, urls[side.name])
                if not bench.is_tiny:
                    await side.call(stalls)  # what the first one of a process makes
            for side in bench.turns():
                for name, value in (await side.call(stalls)).items():
                    stalled[name].add(side.name, value)
            for side in bench.sides:
                await side.call(finish)
    return [*stalled.values(), *await _measure_loads(bench)]


async def _measure_loads(bench: Bench) -> list[Figure]:
    clients, seconds = bench.scaled((CLIENTS, 4.0), (2, 0.05))
    waits = {
        (name, hundredth): Figure(f"ping while {clients} clients {name}, p{hundredth} ÷ idle")
        for name in LOADS
        for hundredth in (50, 99)
    }
    waits["log in", 99].target = 15
    rates = {name: Figure(f"clients {name}, a second", unit="/s") for name in LOADS}
    # Fewer rounds than elsewhere: each load takes seconds, and the differences are factors.
    for side in itertools.islice(bench.turns(), len(bench.sides) * min(bench.rounds, 3)):
        async with databases.sqlite(side.name) as url:
            async with side.running():
                await side.call(seed, str(url), USERS)
            measured = await _under_load(side, str(url), clients=clients, seconds=seconds)
        _, idle = measured.pop("idle")
        for name, (rate, pings) in measured.items():
            rates[name].add(side.name, rate, absolute=rate)
            for hundredth in (50, 99):
                waits[name, hundredth].add(side.name, percentile(pings, hundredth) / percentile(idle, hundredth))
    return [*waits.values(), *rates.values()]
