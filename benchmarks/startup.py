"""What it costs to build an application: routes with a user against routes with one by hand."""

import gc
import time
from typing import Any

from fastapi import Depends, FastAPI

from benchmarks import application
from benchmarks.harness import Bench, Figure


def _build(make_dependency: Any, routes: int) -> float:
    gc.collect()
    start = time.process_time()
    app = FastAPI()
    for number in range(routes):

        async def protected(user: Any = Depends(make_dependency())) -> None: ...

        app.get(f"/{number}")(protected)
    return time.process_time() - start


async def build(routes: int) -> dict[str, float]:
    """CPU seconds by kind."""
    current_user = application.two_backends.current_user
    shared = current_user(active=True)
    return {
        "hand": _build(lambda: application.hand_two, routes),
        "own": _build(lambda: current_user(active=True), routes),
        "shared": _build(lambda: shared, routes),
    }


async def measure(bench: Bench) -> list[Figure]:
    routes = bench.scaled(100, 2)
    own = Figure(f"{routes} routes, each with a `current_user()` of its own ÷ by hand, CPU", target=2.4)
    shared = Figure(f"{routes} routes with one `current_user()` for all ÷ by hand, CPU")
    async with bench.running():
        for side in bench.sides:
            await side.call(build, 1)  # the first route of a process imports more
        for side in bench.turns():
            seconds = await side.call(build, routes)
            own.add(side.name, seconds["own"] / seconds["hand"], absolute=seconds["own"])
            shared.add(side.name, seconds["shared"] / seconds["hand"], absolute=seconds["shared"])
    return [own, shared]
