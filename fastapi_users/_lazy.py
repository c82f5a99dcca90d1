"""Names that need an extra: imported on first use, or refused with the line that installs what is missing."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple


def _hint(extra: str) -> str:
    return f'pip install "fastapi-users[{extra}]"'


class Source(NamedTuple):
    """Where a name comes from, and the extra that brings what its module imports."""

    module: str
    extra: str


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Put the pip line into the error when an import of an optional package fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.msg}. Install it with: {_hint(extra)}", name=error.name) from error


def lazy_names(package: str, eager: list[str], optional: Mapping[str, Source]) -> Callable[[str], Any]:
    """The ``__getattr__`` (PEP 562) of a package in which ``optional`` names exist only where they can be imported.

    A name that cannot be had is absent for ``hasattr``, ``__all__`` and the star import; a plain ``from package
    import Name`` says what to install. ``eager`` are the names of ``__all__`` that are always there.
    """

    def load(name: str) -> Any:
        value = getattr(import_module(optional[name].module), name)
        setattr(sys.modules[package], name, value)
        return value

    def available(name: str) -> bool:
        try:
            load(name)
        except ImportError:
            return False
        return True

    def __getattr__(name: str) -> Any:  # noqa: N807 -- what it becomes
        if name == "__all__":
            return eager + [name for name in optional if available(name)]
        if name not in optional:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return load(name)
        except ImportError as error:
            hint = f"Install it with: {_hint(optional[name].extra)}"
            reason = str(error).removesuffix(f". {hint}")  # which the module may have said
            message = f"{package}.{name} is not available ({reason}). {hint}"
            # A from-import throws the text of an AttributeError away, so it gets an ImportError; hasattr() and
            # getattr() with a default need the AttributeError.
            if sys._getframe(1).f_globals.get("__name__") == "importlib._bootstrap":  # noqa: SLF001 -- documented
                raise ImportError(message, name=package) from error
            raise AttributeError(message) from error

    return __getattr__
