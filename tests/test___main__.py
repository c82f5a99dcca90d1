import runpy
import sys

import pytest

from fastapi_users import __main__, __version__


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["fastapi-users", "--version"])

    with pytest.raises(SystemExit) as exit_:
        __main__.main()

    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_without_its_extra_it_says_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastapi_users.cli", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)

    with pytest.raises(SystemExit, match=r'pip install "fastapi-users\[cli\]"'):
        __main__.main()


def test_it_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["fastapi-users", "--version"])

    with pytest.raises(SystemExit):
        # By its path: of a wheel that brings a plugin, pytest loads the modules in a way that runpy cannot follow.
        runpy.run_path(__main__.__file__, run_name="__main__")

    assert capsys.readouterr().out == f"{__version__}\n"
