"""``make matrix``: the wheel in environments of its own. Needs uv, and the network or a mirror of PyPI.

- bare, extras: without any extra, and with each alone
- adapters: instead of version 15, next to, over and after its adapters
- newest, lowest: the tests, with the newest and with the oldest releases that the requirements allow
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION_15 = "fastapi-users[sqlalchemy,oauth]==15.0.5"
ADAPTERS = {"sqlalchemy": "fastapi-users-db-sqlalchemy==7.0.0", "beanie": "fastapi-users-db-beanie==5.0.0"}
# They look into the source, or build from it.
OF_THE_SOURCE = ["tests/test_house.py", "tests/test_package.py", "tests/test_oauth_browser.py"]
COPIED = ["tests", "examples", "docs", "benchmarks", "pyproject.toml", "mkdocs.yml", "LICENSE"]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    subprocess.run([*map(str, command)], cwd=cwd, env={**os.environ, **environment}, check=True)


def extras_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(metadata).decode()).get_all("Provides-Extra", [])


class Environment:
    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder, self.wheel = folder, wheel
        self.python = folder / "bin" / "python"
        run("uv", "venv", "--quiet", "--seed", "--python", sys.executable, folder)

    def install(self, *requirements: str | Path) -> None:
        run("uv", "pip", "install", "--quiet", "--python", self.python, *requirements)

    def pip(self, *arguments: str | Path) -> None:
        run(self.python, "-m", "pip", "--quiet", *arguments)

    def walk(self, name: str = "") -> None:
        folder = self.folder / "walk"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT / "examples" / "legacy", folder)
        run(self.python, "-W", "ignore", ROOT / ".ci" / "walk.py", *([name] if name else []), cwd=folder)


def bare(folder: Path, wheel: Path) -> None:
    environment = Environment(folder / "bare", wheel)
    environment.install(wheel)
    environment.walk()
    answer = subprocess.run([environment.folder / "bin" / "fastapi-users"], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert 'pip install "fastapi-users[cli]"' in answer.stderr, answer.stderr


def extras(folder: Path, wheel: Path) -> None:
    for extra in extras_of(wheel):
        environment = Environment(folder / extra, wheel)
        environment.install(f"fastapi-users[{extra}] @ {wheel.as_uri()}")
        environment.walk(extra)


def adapters(folder: Path, wheel: Path) -> None:
    """With pip, which puts the files of the later one over those of the earlier."""
    environment = Environment(folder / "migration", wheel)
    environment.install(VERSION_15, "aiosqlite")
    environment.walk("legacy")
    print("adapters, version 15 before it is replaced: good")

    environment.pip("uninstall", "--yes", "fastapi-users", *(name.partition("==")[0] for name in ADAPTERS.values()))
    environment.pip("install", wheel)
    environment.walk("legacy")
    print("adapters, ours in its place: good")

    environment = Environment(folder / "adapters", wheel)
    environment.install(f"fastapi-users[sqlalchemy,beanie,oauth] @ {wheel.as_uri()}", "aiosqlite")
    environment.pip("uninstall", "--yes", "fastapi-users")
    originals = [*ADAPTERS.values()]

    environment.pip("install", "--no-deps", *originals)
    environment.pip("install", "--no-deps", wheel)
    environment.walk("legacy")
    print("adapters, ours over the originals: good")

    environment.pip("install", "--no-deps", "--force-reinstall", *originals)
    environment.walk("legacy")
    print("adapters, the originals after ours: good")

    environment.pip("uninstall", "--yes", *(name.partition("==")[0] for name in originals))
    environment.pip("install", "--no-deps", "--force-reinstall", wheel)
    environment.walk("legacy")
    print("adapters, the originals uninstalled and ours installed again: good")

    environment.pip("uninstall", "--yes", "fastapi-users")
    environment.pip("install", wheel, *originals)
    environment.walk("legacy")
    print("adapters, both in one command: good")


def newest(folder: Path, wheel: Path) -> None:
    run_tests(folder / "newest", wheel, "highest")


def lowest(folder: Path, wheel: Path) -> None:
    run_tests(folder / "lowest", wheel, "lowest-direct")


def run_tests(folder: Path, wheel: Path, resolution: str) -> None:
    environment = Environment(folder, wheel)
    constraints = folder / "constraints.txt"
    everything: list[str | Path] = ["--all-extras", "--resolution", resolution, "--python", environment.python]
    run("uv", "pip", "compile", "--quiet", "--no-deps", *everything, "--output-file", constraints, "pyproject.toml")
    print(constraints.read_text("utf-8"))
    wanted = f"fastapi-users[{','.join(extras_of(wheel))}] @ {wheel.as_uri()}"
    environment.install("--constraint", constraints, wanted, "--group", "dev")
    copy = folder / "copy"
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    for text in ROOT.glob("*.md"):
        shutil.copy(text, copy)
    ignored = [f"--ignore={path}" for path in OF_THE_SOURCE]
    run(environment.python, "-m", "pytest", "-q", "--numprocesses=auto", "--dist=worksteal", *ignored, cwd=copy)


def main() -> None:
    parts = {part.__name__: part for part in (bare, extras, adapters, newest, lowest)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all of them by default")
    names = parser.parse_args().parts or [*parts]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run("uv", "build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
        [wheel] = folder.glob("*.whl")
        for name in names:
            parts[name](folder, wheel)


main()
