"""Our speed, as ratios taken in one run: ``make bench``. What the parts measure stands in docs/performance.md."""

import asyncio
import platform
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import date
from importlib import import_module
from os import cpu_count
from pathlib import Path

from benchmarks.harness import Bench, opened, table

# Modules of this package with an ``async def measure(bench: Bench) -> list[Figure]``.
PARTS = ["imports", "startup", "read", "sessions", "hashing", "contention", "example", "throttle", "growth"]
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


BEGIN, END = "<!-- figures of make bench -->\n", "<!-- the end of them -->\n"


async def run(bench: Bench, parts: Sequence[str]) -> str:
    """What it prints meanwhile."""
    lines = []

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    today = date.today()  # noqa: DTZ011 -- the calendar of this machine
    tell(f"{today}, {platform.machine()}, {cpu_count()} cores. Medians of {bench.rounds} rounds (quartiles).\n")
    for side in bench.sides:
        tell(f"- {side.name}: {(await side.output(VERSIONS)).strip()}")
    for part in parts:
        module = import_module(f"benchmarks.{part}")
        figures = await module.measure(bench)
        title = (module.__doc__ or part).splitlines()[0]
        tell(f"\n{title}\n\n{table(figures, bench.sides)}")
    return "\n".join(lines)


def replace_figures(page: Path, figures: str) -> None:
    """Between the two comments that say where they stand."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} has no place for figures, between {BEGIN!r} and {END!r}.")
    page.write_text(f"{before}{BEGIN}\n{figures}\n\n{END}{after}", "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)} (the default), {', '.join(ON_DEMAND)}")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="an interpreter with another implementation, measured beside ours"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--tiny", action="store_true", help="the shortest run that touches everything: figures mean nothing"
    )
    parser.add_argument("--page", type=Path, help="a page of docs/ whose figures are replaced by these")
    chosen = parser.parse_args(arguments)
    unknown = {*chosen.parts} - {*PARTS, *ON_DEMAND}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with opened(peer=chosen.peer, rounds=1 if chosen.tiny else chosen.rounds, is_tiny=chosen.tiny) as bench:
        figures = asyncio.run(run(bench, chosen.parts or PARTS))
    if chosen.page:
        replace_figures(chosen.page, figures)


if __name__ == "__main__":
    main()
