"""Our speed, as ratios taken in one run: ``make bench``. What the parts measure stands in docs/performance.md."""

import asyncio
import platform
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import date
from importlib import import_module
from os import cpu_count

from benchmarks.harness import Bench, opened, table

# Modules of this package with an ``async def measure(bench: Bench) -> list[Figure]``.
PARTS = ["imports", "startup", "read", "hashing", "growth"]
ON_DEMAND = ["instructions", "capacity"]  # they take longer, or need what not every machine has

DISTRIBUTIONS = ["fastapi-users", "fastapi", "starlette", "pydantic", "SQLAlchemy", "PyJWT", "redis", "uvicorn"]
VERSIONS = f"""
from importlib.metadata import PackageNotFoundError, version
def of(name):
    try:
        return f"{{name}} {{version(name)}}"
    except PackageNotFoundError:
        return f"no {{name}}"
import platform
print("Python " + platform.python_version(), *map(of, {DISTRIBUTIONS}), sep=", ")
"""


async def run(bench: Bench, parts: Sequence[str]) -> None:
    today = date.today()  # noqa: DTZ011 -- the calendar of this machine
    print(f"{today}, {platform.machine()}, {cpu_count()} cores. Medians of {bench.rounds} rounds (quartiles).")
    for side in bench.sides:
        print(f"- {side.name}: {(await side.output(VERSIONS)).strip()}")
    for part in parts:
        module = import_module(f"benchmarks.{part}")
        figures = await module.measure(bench)
        title = (module.__doc__ or part).splitlines()[0]
        print(f"\n{title}\n\n{table(figures, bench.sides)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)} (the default), {', '.join(ON_DEMAND)}")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="an interpreter with another implementation, measured beside ours"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--tiny", action="store_true", help="the shortest run that touches everything: figures mean nothing"
    )
    chosen = parser.parse_args(arguments)
    unknown = {*chosen.parts} - {*PARTS, *ON_DEMAND}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with opened(peer=chosen.peer, rounds=1 if chosen.tiny else chosen.rounds, is_tiny=chosen.tiny) as bench:
        asyncio.run(run(bench, chosen.parts or PARTS))


if __name__ == "__main__":
    main()
