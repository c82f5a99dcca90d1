"""The requests of ``read`` in user-space instructions, which repeat to a percent on a busy machine. Needs valgrind.

Blind to the kernel: a round trip or the hop to a thread costs more than it shows.
"""

import asyncio
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import databases, read
from benchmarks.harness import Bench, Figure, Side

_WARM_UP = 20  # caches of SQLAlchemy, of FastAPI and of the interpreter itself are filled by then


async def _control(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "callgrind_control", *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0, arguments


async def _count(side: Side, name: str, kind: str, times: int, dumps: Path) -> float:
    """Instructions of one request."""
    await side.call(read.repeat, name, kind, times)
    await _control("--zero", str(side.pid))
    await side.call(read.repeat, name, kind, times)
    await _control("--dump", str(side.pid))
    return _total_of_newest(dumps) / times


def _total_of_newest(dumps: Path) -> int:
    newest = max(dumps.iterdir(), key=lambda dump: dump.stat().st_mtime_ns)
    found = re.search(r"^(?:totals|summary): (\d+)", newest.read_text(), re.MULTILINE)
    assert found is not None, newest
    return int(found[1])


async def measure(bench: Bench) -> list[Figure]:
    if shutil.which("callgrind_control") is None:
        print("valgrind is not installed: its part is left out.")
        return []
    database = (await databases.available())[-1]
    times = bench.scaled(_WARM_UP, 1)
    figures = []
    with TemporaryDirectory() as folder:
        under = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={folder}/%p"]
        async with read.prepared(bench, database, under=under) as names:
            for name in bench.scaled(names, names[:1]):
                figure = Figure(f"{name} ÷ by hand, {database}, instructions", target=read.CASES[name].target)
                for side in bench.sides:
                    counted = [await _count(side, name, kind, times, Path(folder)) for kind in ("library", "hand")]
                    figure.add(side.name, counted[0] / counted[1], absolute=counted[0])
                figures.append(figure)
    return figures
