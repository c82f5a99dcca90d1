"""The compatibility contract with fastapi-users 15.0.5, as the programs beside this file check it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("check", "at_least"),
    [("check_surface.py", 2400), ("check_openapi.py", 400), ("check_behaviour.py", 1000)],
)
def test_an_application_written_for_15_0_5_finds_what_it_knows(check: str, at_least: int) -> None:
    # Programs of their own: what measures this process is none of their business.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    finished = subprocess.run(  # noqa: S603 -- ours
        [sys.executable, str(HERE / check)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )

    lines = finished.stdout.splitlines()
    verdict = re.fullmatch(r"(\d+) checked, 0 incompatible", lines[-1])
    assert finished.returncode == 0, finished.stdout
    assert verdict is not None, finished.stdout
    assert int(verdict[1]) > at_least, finished.stdout
    # A check that does not run is a promise that nobody keeps.
    assert [line for line in lines if line.startswith("skipped:")] == [], finished.stdout
