"""What is built and uploaded, looked at as an installer sees it."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

from fastapi_users import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = {"fastapi_users", "fastapi_users_db_beanie", "fastapi_users_db_sqlalchemy", "fastapi_users_pytest"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it. Without isolation, which would need the network."""
    folder = tmp_path_factory.mktemp("dist")
    finished = subprocess.run(  # noqa: S603 -- ours
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.Path:
    return zipfile.Path(built / f"fastapi_users-{__version__}-py3-none-any.whl")


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.Path) -> Message:
    return Parser().parsestr((wheel / f"fastapi_users-{__version__}.dist-info" / "METADATA").read_text("utf-8"))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.Path) -> None:
    assert {entry.name for entry in wheel.iterdir()} == {*PACKAGES, f"fastapi_users-{__version__}.dist-info"}


def test_the_wheel_holds_every_module_every_template_and_the_marks_of_its_types(wheel: zipfile.Path) -> None:
    suffixes = {".html", ".py", ".txt", ".typed"}
    source = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in suffixes]

    wanted = {f"{package}/py.typed" for package in PACKAGES} | {"fastapi_users/mail/templates/layout.html"}
    assert wanted <= {path.relative_to(ROOT).as_posix() for path in source}
    assert [path for path in source if not (wheel / path.relative_to(ROOT).as_posix()).is_file()] == []


def test_the_wheel_holds_the_list_of_common_passwords_and_its_entry_points(wheel: zipfile.Path) -> None:
    entry_points = (wheel / f"fastapi_users-{__version__}.dist-info" / "entry_points.txt").read_text("utf-8")

    assert (wheel / "fastapi_users" / "common_passwords.txt").is_file()
    assert entry_points.split() == [
        *("[console_scripts]", "fastapi-users", "=", "fastapi_users.__main__:main"),
        *("[pytest11]", "fastapi_users", "=", "fastapi_users_pytest"),
    ]


@pytest.mark.parametrize("name", ["all of it", "legacy"])
def test_what_the_wheel_installs_works(built: Path, tmp_path: Path, name: str) -> None:
    """In this environment, without the source. ``make matrix`` does it in others."""
    folder = tmp_path / "installed"
    with zipfile.ZipFile(built / f"fastapi_users-{__version__}-py3-none-any.whl") as archive:
        archive.extractall(folder)  # noqa: S202 -- ours
    shutil.copytree(ROOT / "examples" / "legacy", tmp_path / "legacy")
    finished = subprocess.run(  # noqa: S603 -- ours
        [sys.executable, "-W", "ignore", str(ROOT / ".ci" / "walk.py"), name],
        cwd=tmp_path / "legacy",
        env={**os.environ, "PYTHONPATH": str(folder), "EXPECTED_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.endswith(f"{name}: good\n")


def test_the_metadata_names_the_package_as_upstream_does(metadata: Message) -> None:
    assert metadata["Name"] == "fastapi-users"
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    assert {"sqlalchemy", "redis", "oauth", "mail", "testing", "cli"} <= {*metadata.get_all("Provides-Extra", [])}


def test_applications_can_take_every_newer_release_of_what_we_need(metadata: Message) -> None:
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]

    assert {"fastapi", "pydantic", "pyjwt"} <= {requirement.name for requirement in requirements}
    assert {part.operator for requirement in requirements for part in requirement.specifier} == {">="}


def test_the_sdist_holds_what_the_wheel_is_built_from(built: Path) -> None:
    with tarfile.open(built / f"fastapi_users-{__version__}.tar.gz") as sdist:
        top_level = {PurePosixPath(name).parts[1] for name in sdist.getnames()}

    assert {*PACKAGES, "LICENSE", "README.md", "pyproject.toml"} <= top_level
