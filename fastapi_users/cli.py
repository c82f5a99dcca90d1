"""The command ``fastapi-users``: what somebody with a shell does to the accounts of an application."""

import json
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

import anyio
from fastapi import Depends
from pydantic import BaseModel, ConfigDict, ValidationError

from fastapi_users import __version__, schemas
from fastapi_users._lazy import needs_extra
from fastapi_users.application import Application, ApplicationError, load_application, require_manager
from fastapi_users.db.base import is_adapter
from fastapi_users.doctor import Finding, examine, find_missing_tables, find_unguarded_columns
from fastapi_users.exceptions import InvalidPasswordException, UserAlreadyExists, UserNotExists
from fastapi_users.manager import ending_sessions
from fastapi_users.project import find_project

with needs_extra("cli"):
    import typer

R = TypeVar("R")
S = TypeVar("S", bound=BaseModel)

cli = typer.Typer(
    name="fastapi-users",
    help="Accounts of a FastAPI application, from the shell.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Email = Annotated[str, typer.Argument(help="The address of the user.", show_default=False)]


class _UserCreate(schemas.BaseUserCreate):
    """With the columns of the application, whatever those are."""

    model_config = ConfigDict(extra="allow")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def options(
    context: typer.Context,
    app: Annotated[
        str | None,
        typer.Option(
            envvar="FASTAPI_USERS_APP",
            help="The application, its FastAPIUsers or its user manager's dependency, as module:name. "
            "Default: app in [tool.fastapi-users] of pyproject.toml.",
            show_default=False,
        ),
    ] = None,
    traceback: Annotated[bool, typer.Option(help="Show where an error comes from.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    context.obj = {"app": app, "traceback": traceback}


@cli.command()
def create_superuser(
    context: typer.Context,
    email: Email,
    field: Annotated[
        list[str] | None,
        typer.Option(help="Another column, as name=value; the value is JSON, or a text.", show_default=False),
    ] = None,
) -> None:
    """Create a verified superuser. The password is asked for, or read from standard input."""
    fields = dict(map(_parse_field, field or ()))
    password = _read_password()
    # The columns first, so that none of them replaces what this command is about.
    flags = {"is_active": True, "is_superuser": True, "is_verified": True}
    user_create = _fit(_UserCreate, {**fields, "email": email, "password": password, **flags})

    async def create(application: Application) -> Any:
        async def with_manager(user_manager: Any = Depends(application.fastapi_users.get_user_manager)) -> Any:
            require_manager(user_manager)
            users = user_manager.user_db
            knows = users.has_field if is_adapter(users) else bool  # which knows every name
            unknown = [name for name in fields if not knows(name)]
            if unknown:
                raise ApplicationError(f"Users have no {', '.join(unknown)}.")
            return (await user_manager.create(user_create)).id

        return await application.call(with_manager)

    user_id = _run(context, create)
    typer.echo(f"Created the superuser {email}, with the id {user_id}.")


@cli.command()
def set_password(context: typer.Context, email: Email) -> None:
    """Give a user another password, which ends the user's sessions. It is asked for, or read from standard input."""
    user_update = _fit(schemas.BaseUserUpdate, {"password": _read_password()})

    async def change(application: Application) -> None:
        facade = application.fastapi_users

        async def with_manager(
            user_manager: Any = Depends(facade.get_user_manager),
            end_sessions: Any = Depends(facade.authenticator.session_ender()),
        ) -> None:
            require_manager(user_manager)
            user = await user_manager.get_by_email(email)
            with ending_sessions(end_sessions):
                await user_manager.update(user_update, user)

        await application.call(with_manager)

    _run(context, change)
    typer.echo(f"{email} has another password.")


@cli.command()
def secret() -> None:
    """Make a secret for tokens, of 32 random bytes."""
    typer.echo(secrets.token_urlsafe(32))


@cli.command()
def cleanup(context: typer.Context) -> None:
    """Delete what has expired: one-time secrets, access tokens, denied tokens and what features keep."""
    for what, outcome in _run(context, _clean_up).items():
        typer.echo(f"{what}: {outcome}")


@cli.command()
def doctor(
    context: typer.Context,
    database: Annotated[bool, typer.Option(help="Ask the database whether the tables are there.")] = True,
) -> None:
    """List tables that are missing and settings that are not safe, each with the line to write.

    The exit code is 1 if there are any.
    """

    async def look(application: Application) -> list[Finding]:
        async def with_parts(user_manager: Any, strategies: list[Any]) -> list[Finding]:
            missing: list[Finding] = []
            if database:
                missing = await find_missing_tables(user_manager, strategies) or await find_unguarded_columns(
                    user_manager
                )
            return [*missing, *examine(user_manager, application.backends, strategies, application.app)]

        return await application.call_with_parts(with_parts)

    findings = _run(context, look)
    for finding in findings:
        typer.echo(f"{finding.place}\n  {finding.problem}\n  Write: {finding.line}\n")
    typer.echo(f"To change: {len(findings)}" if findings else "Nothing to change.")
    raise typer.Exit(1 if findings else 0)


async def _clean_up(application: Application) -> dict[str, str]:
    async def with_parts(user_manager: Any, strategies: list[Any]) -> dict[str, str]:
        outcomes: dict[str, str] = {}
        for name in dir(type(user_manager)):
            if name.startswith("_cleanup_"):
                what = name.removeprefix("_cleanup_").replace("_", " ")
                outcomes[what] = await _outcome(getattr(user_manager, name))
        for backend, strategy in zip(application.backends, strategies, strict=True):
            keepers: list[tuple[str, Any]] = [("tokens", strategy), ("ended tokens", getattr(strategy, "revoke", None))]
            for what, keeper in keepers:
                if hasattr(type(keeper), "cleanup"):
                    outcomes[f"{what} of the backend {backend.name}"] = await _outcome(keeper.cleanup)
        return outcomes

    return await application.call_with_parts(with_parts)


async def _outcome(cleanup: Callable[[], Awaitable[int]]) -> str:
    """One that cannot keeps no other from it."""
    try:
        return f"{await cleanup()} deleted"
    except NotImplementedError as error:
        return f"none deleted: {error}"


def _run(context: typer.Context, command: Callable[[Application], Awaitable[R]]) -> R:
    with _errors_as_sentences(shows_traceback=context.obj["traceback"]):
        project = find_project()
        sys.path[:0] = [str(project.folder)]
        reference = context.obj["app"] or project.app
        if reference is None:
            raise ApplicationError(
                'Which application? Write app = "app.main:app" under [tool.fastapi-users] in pyproject.toml, or give --app.'
            )
        application = load_application(reference)

        async def run() -> R:
            async with application.running():
                return await command(application)

        return anyio.run(run)


@contextmanager
def _errors_as_sentences(*, shows_traceback: bool) -> Iterator[None]:
    """The first line of an error: what follows may quote a statement with its values."""
    try:
        yield
    except Exception as error:
        if shows_traceback:
            raise
        _fail(_sentence(error))
    except SystemExit as error:
        if error.code:  # which says enough, or the application did
            raise
        _fail("The application ended while it was loaded: is its start behind if __name__ == '__main__'?")


def _sentence(error: Exception) -> str:
    if isinstance(error, ApplicationError):
        return str(error)
    if isinstance(error, UserAlreadyExists):
        return "There is a user with this address already."
    if isinstance(error, UserNotExists):
        return "There is no user with this address."
    if isinstance(error, InvalidPasswordException):
        return f"The application refuses this password: {error.reason}"
    inner: Any = getattr(error, "exceptions", ())
    if inner:  # of a task group
        return _sentence(inner[0])
    if isinstance(error, ValidationError):  # of the settings, for example: its first line names none of them
        problem = error.errors(include_input=False, include_url=False)[0]
        text = f"{error.title}.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    else:
        text = str(error).strip().partition("\n")[0]
    return f"{': '.join(filter(None, [type(error).__name__, text]))} (--traceback shows where)"


def _fit(schema: type[S], values: dict[str, Any]) -> S:
    try:
        fit = schema.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]  # what was put in may be the password
        is_of_the_email = problem["loc"] == ("email",)
        _fail(f"{values['email']!r} is no e-mail address." if is_of_the_email else f"{problem['msg']}.")
    return fit


def _parse_field(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"{text!r} is not name=value.", param_hint="--field")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _read_password() -> str:
    """Never from an argument, which every user of the machine sees in the list of processes."""
    if _is_terminal():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        password = "" if sys.stdin is None else sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError as error:
        _fail(f"The password on standard input is no text in {error.encoding}.")
    if not password:
        _fail("There is no password on standard input.")
    return password


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()  # None where it was closed


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
