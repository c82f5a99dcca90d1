from pathlib import Path

import pytest

from fastapi_users.project import Project, find_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.fastapi-users]\napp = "app.main:app"\n', "utf-8")
    return tmp_path


def test_a_project_is_found_from_a_folder_of_it_past_other_files(folder: Path) -> None:
    inner = folder / "service" / "tests"
    inner.mkdir(parents=True)
    (folder / "service" / "pyproject.toml").write_text("[project]\nname = 'service'\n", "utf-8")

    assert find_project(inner) == Project(folder, "app.main:app")


def test_without_one_modules_are_found_in_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert find_project() == Project(tmp_path, None)


def test_an_application_that_is_no_text_is_none(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.fastapi-users]\napp = 1\n", "utf-8")

    assert find_project(folder) == Project(folder, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[tool.fastapi-users", "pyproject.toml is no TOML: Expected"),
        (
            '[tool]\nfastapi-users = "app.main:app"\n',
            "pyproject.toml has one value for fastapi-users: write [tool.fastapi-",
        ),
    ],
)
def test_settings_that_are_written_wrong_are_named_by_their_file(folder: Path, text: str, sentence: str) -> None:
    (folder / "pyproject.toml").write_text(text, "utf-8")

    with pytest.raises((ValueError, TypeError)) as caught:
        find_project(folder)

    assert str(caught.value).startswith(f"{folder / sentence}")


def test_tools_that_are_no_table_are_of_somebody_else(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("tool = 1\n", "utf-8")

    assert find_project(folder / "inner") == Project(folder / "inner", None)
