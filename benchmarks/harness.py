"""Sides, which are interpreters with an implementation of ``fastapi_users`` each, and the figures that are taken on them.

A part is a module with ``async def measure(bench: Bench) -> list[Figure]``. What it wants done on a side is a function of
the same module: ``await side.call(function, …)`` runs it in the process of that side, with arguments and results that
JSON can carry. So ours and the peer do the same, in turns, within one run.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).parents[1]
OURS, PEER = "ours", "peer"
_LONGEST_ANSWER = 1 << 24


@dataclass
class Figure:
    """One line of the table: a number of each round, by side. ``target`` is the most that ours may be.

    What the number is the ratio of may be told too, as ``absolute``: its unit is anything that both sides share.
    """

    name: str
    rounds: dict[str, list[float]] = field(default_factory=dict)
    target: float | None = None
    unit: str = ""
    absolute: dict[str, list[float]] = field(default_factory=dict)

    def add(self, side: str, value: float, *, absolute: float | None = None) -> None:
        self.rounds.setdefault(side, []).append(value)
        if absolute is not None:
            self.absolute.setdefault(side, []).append(absolute)

    def shown(self, side: str) -> str:
        return _summary(self.rounds.get(side, []), self.unit)

    def compared(self) -> str:
        """Ours ÷ peer, each round for itself."""
        pairs = zip(self.absolute.get(OURS, []), self.absolute.get(PEER, []), strict=False)
        return _summary([own / other for own, other in pairs])

    def wanted(self) -> str:
        return "" if self.target is None else f"≤ {self.target:g}"


def _summary(values: Sequence[float], unit: str = "") -> str:
    """Median and quartiles: the middle half of the rounds."""
    if len(values) < 2:  # noqa: PLR2004 -- one has no quartiles
        return "".join(f"{_short(value)}{unit}" for value in values)
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{_short(median(values))}{unit} ({_short(low)} to {_short(high)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 -- three digits


class Side:
    """An interpreter, and the process in it that does what parts ask for."""

    def __init__(self, name: str, python: str, folder: Path, *, under: Sequence[str] = ()) -> None:
        self.name = name
        self.python = python
        # Where the benchmarks and the examples are found, but not our package: a peer imports its own.
        self.folder = folder
        self.under = under
        self._process: asyncio.subprocess.Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        # Compiled modules are kept: without them it is the compiler that an import measures.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**inherited, "PYTHONPATH": str(self.folder), "PYTHONHASHSEED": "0"}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Side"]:
        pipe = asyncio.subprocess.PIPE
        command = [*self.under, self.python, "-m", "benchmarks.worker"]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, cwd=self.folder, env=self.environment, limit=_LONGEST_ANSWER
        )
        try:
            yield self
        finally:
            process, self._process = self._process, None
            assert process.stdin is not None
            process.stdin.close()  # which ends it
            await process.wait()

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"module": function.__module__, "name": function.__name__, "args": args, "kwargs": kwargs}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process has ended"}
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        result: T = answer["result"]
        return result

    async def output(self, code: str) -> str:
        """What a fresh interpreter prints."""
        process = await asyncio.create_subprocess_exec(
            self.python, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=self.folder, env=self.environment
        )
        printed, _ = await process.communicate()
        return printed.decode()


@dataclass
class Bench:
    """What a part has to work with. ``is_tiny`` wants the shortest run that touches everything."""

    sides: list[Side]
    rounds: int
    is_tiny: bool = False

    @property
    def ours(self) -> Side:
        return self.sides[0]

    def scaled(self, full: T, tiny: T) -> T:
        return tiny if self.is_tiny else full

    def turns(self) -> Iterator[Side]:
        """Every side once a round, the first one changing, so that no side always has the warmer machine."""
        for number in range(self.rounds):
            yield from self.sides if number % 2 == 0 else reversed(self.sides)

    @asynccontextmanager
    async def running(self, *, under: Sequence[str] = ()) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for side in self.sides:
                side.under = under
                await stack.enter_async_context(side.running())
            yield


@contextmanager
def opened(*, peer: str | None, rounds: int, is_tiny: bool = False) -> Iterator[Bench]:
    with TemporaryDirectory() as folder:
        for name in ("benchmarks", "examples"):
            (Path(folder) / name).symlink_to(ROOT / name)
        pythons = {OURS: sys.executable} | ({PEER: str(Path(peer).absolute())} if peer else {})
        yield Bench([Side(name, python, Path(folder)) for name, python in pythons.items()], rounds, is_tiny)


def table(figures: Sequence[Figure], sides: Sequence[Side]) -> str:
    """In Markdown, for a terminal and for a page alike."""
    heads = ["figure", *(side.name for side in sides), "target"]
    rows = [[figure.name, *(figure.shown(side.name) for side in sides), figure.wanted()] for figure in figures]
    compared = [figure.compared() for figure in figures]
    if any(compared):
        heads.append("ours ÷ peer")
        rows = [[*row, cell] for row, cell in zip(rows, compared, strict=True)]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
