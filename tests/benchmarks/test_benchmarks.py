"""The benchmarks run, from end to end. How fast anything is decides no test."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BEGIN, END, ON_DEMAND, PARTS, replace_figures
from benchmarks.harness import OURS, PEER, Bench, Figure, Side, opened, table
from benchmarks.load import percentile
from tests import services

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"^[\d.,e+-]+( MiB| ms|/s)?$")


def run(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    # The database of this process, since tests in others empty theirs.
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "TEST_REDIS_URL": services.REDIS_URL}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(  # noqa: S603 -- ours
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def figures_of(text: str) -> dict[str, list[str]]:
    """The cells behind the name of each figure."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {name: cells for name, *cells in lines if name != "figure" and set(name) != {"-"}}


@pytest.mark.parametrize("part", [part for part in [*PARTS, *ON_DEMAND] if part != "instructions"])
def test_a_part_gives_numbers(part: str) -> None:
    finished = run(part, "--tiny")

    assert finished.returncode == 0, finished.stderr
    figures = figures_of(finished.stdout)
    assert figures or part == "capacity"  # which is of PostgreSQL only
    assert [name for name, (ours, _) in figures.items() if not NUMBER.match(ours)] == []


def test_instructions_are_those_that_valgrind_counts(tmp_path: Path) -> None:
    """With programs in its place, since the application takes half a minute to start under it."""
    programs = {
        "valgrind": f'#!/bin/sh\necho "${{3#--callgrind-out-file=}}" > {tmp_path}/pattern\nshift 3\nexec "$@"\n',
        "callgrind_control": (
            f'#!/bin/sh\ntest "$1" = --zero || echo "totals: 1000" > "$(dirname "$(cat {tmp_path}/pattern)")/$2.1"\n'
        ),
    }
    for name, program in programs.items():
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)

    finished = run("instructions", "--tiny", path=str(tmp_path))

    assert finished.returncode == 0, finished.stderr
    assert [ours for ours, _ in figures_of(finished.stdout).values()] == ["1"]


def test_a_peer_is_measured_in_the_same_run() -> None:
    finished = run("startup", "--tiny", "--peer", sys.executable)

    assert finished.returncode == 0, finished.stderr
    assert re.search("^- ours: .+\n- peer: ", finished.stdout, re.MULTILINE)
    assert [cells for cells in figures_of(finished.stdout).values() if not all(map(NUMBER.match, cells[:2]))] == []


def test_a_part_that_there_is_not_is_refused() -> None:
    finished = run("nothing")

    assert finished.returncode == 2
    assert "no such part: nothing" in finished.stderr


async def fail(reason: str) -> None: ...  # on the side, where it is of another module


async def test_an_error_on_a_side_is_told_with_its_traceback() -> None:
    with opened(peer=None, rounds=1) as bench:
        async with bench.running():
            bench.ours.folder.joinpath("broken.py").write_text(
                "async def fail(reason):\n    raise ValueError(reason)\n"
            )
            fail.__module__ = "broken"
            with pytest.raises(RuntimeError, match=r"ours: Traceback(.|\n)+ValueError: on purpose"):
                await bench.ours.call(fail, "on purpose")


async def test_a_side_that_ends_is_noticed() -> None:
    with opened(peer=None, rounds=1) as bench:
        async with bench.running():
            bench.ours.folder.joinpath("ending.py").write_text(
                "import os\n\nasync def fail(reason):\n    os._exit(1)\n"
            )
            fail.__module__ = "ending"
            with pytest.raises(RuntimeError, match="ours: the process has ended"):
                await bench.ours.call(fail, "")


def test_sides_take_turns_and_take_turns_at_being_the_first() -> None:
    ours, peer = (Side(name, sys.executable, ROOT) for name in (OURS, PEER))

    assert [*Bench([ours, peer], rounds=2).turns()] == [ours, peer, peer, ours]


def test_a_table_shows_medians_with_quartiles_and_what_is_not_there_as_nothing() -> None:
    ours, peer = (Side(name, sys.executable, ROOT) for name in (OURS, PEER))
    ratio = Figure("a ratio", {OURS: [1.0, 2.0, 3.0, 4.0, 5.0], PEER: [0.12345]}, target=1.5)
    rate = Figure("a rate", unit="/s")
    rate.add(OURS, 1234.5)

    assert figures_of(table([ratio, rate], [ours, peer])) == {
        "a ratio": ["3 (2 to 4)", "0.123", "≤ 1.5"],
        "a rate": ["1,234/s", "", ""],
    }
    rate.add(OURS, 3000.0, absolute=3000.0)
    rate.add(PEER, 1500.0, absolute=1500.0)
    assert figures_of(table([rate], [ours, peer])) == {"a rate": ["2,117/s (1,676 to 2,559)", "1,500/s", "", "2"]}


def test_figures_take_the_place_of_older_ones_in_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{BEGIN}\nold\n\n{END}", "utf-8")

    finished = run("imports", "--tiny", "--page", str(page))

    assert finished.returncode == 0, finished.stderr
    text = page.read_text("utf-8")
    assert text.startswith(f"# A page\n\n{BEGIN}\n20")  # the day
    assert text.endswith(f"|\n\n{END}")
    assert "modules that" in text
    assert "old" not in text


def test_a_page_that_has_no_place_for_figures_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n", "utf-8")

    with pytest.raises(ValueError, match=r"page\.md has no place for figures"):
        replace_figures(page, "new")

    assert page.read_text("utf-8") == "# A page\n"


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([3.0], 99) == 3.0
    assert percentile([0.0, 100.0], 50) == 50.0
