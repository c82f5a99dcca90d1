import sys
import types

import pytest

from fastapi_users._lazy import Source, lazy_names, needs_extra


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A package with one name that is always there, one that an extra brings, and one whose extra is missing."""
    module = types.ModuleType("lazy_package")
    module.__path__ = []
    module.always = "always"  # type: ignore[attr-defined]  # a module made by hand
    module.__getattr__ = lazy_names(  # type: ignore[method-assign]  # PEP 562
        "lazy_package",
        ["always"],
        {
            "join": Source("posixpath", extra="posix"),
            "Missing": Source("a_module_that_nobody_has", extra="missing"),
        },
    )
    monkeypatch.setitem(sys.modules, "lazy_package", module)
    return module


def test_a_name_is_imported_on_first_use(package: types.ModuleType) -> None:
    import posixpath

    assert "join" not in vars(package)
    assert package.join is posixpath.join
    assert vars(package)["join"] is posixpath.join


def test_a_name_whose_package_is_missing_is_absent(package: types.ModuleType) -> None:
    assert not hasattr(package, "Missing")
    assert package.__all__ == ["always", "join"]


def test_a_star_import_brings_what_can_be_had(package: types.ModuleType) -> None:
    names: dict[str, object] = {}
    exec("from lazy_package import *", names)  # noqa: S102 -- a star import is only allowed at module level

    assert {"always", "join"} <= names.keys()
    assert "Missing" not in names


def test_a_from_import_says_what_to_install(package: types.ModuleType) -> None:
    with pytest.raises(ImportError, match=r'pip install "fastapi-users\[missing\]"'):
        from lazy_package import Missing  # type: ignore[import-not-found]  # noqa: F401 -- what is tested


def test_using_the_attribute_says_what_to_install(package: types.ModuleType) -> None:
    with pytest.raises(AttributeError, match=r'pip install "fastapi-users\[missing\]"'):
        _ = package.Missing


def test_a_name_that_nobody_knows_is_an_ordinary_error(package: types.ModuleType) -> None:
    with pytest.raises(AttributeError, match="module 'lazy_package' has no attribute 'nonsense'"):
        _ = package.nonsense


def test_an_import_that_fails_says_what_to_install() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match=r'pip install "fastapi-users\[missing\]"') as caught,
        needs_extra("missing"),
    ):
        import a_module_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401 -- what is tested

    assert caught.value.name == "a_module_that_nobody_has"
