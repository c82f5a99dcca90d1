# ruff: noqa: T201 -- a command speaks by printing
import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path

import uvicorn

from examples.demo.app import create_app
from examples.demo.database import Database, OAuthAccount, User
from examples.demo.outbox import Outbox
from examples.demo.provider import running_provider
from examples.demo.settings import Settings, load_settings
from examples.demo.users import UserManager, UserUpdate
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.exceptions import UserNotExists


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    settings = load_settings(options.data, f"http://{options.host}:{options.port}")
    if options.command == "superuser":
        return asyncio.run(make_superuser(settings, options.email))

    print(
        f"The demo of fastapi-users: {settings.base_url}/\n"
        f"Routes to try out:         {settings.base_url}/docs\n"
        f"Mails it would send:       {settings.base_url}/outbox (and here)\n"
        f"What happens to accounts:  {settings.base_url}/events\n"
        f"To make a superuser, run:  {relpath(sys.executable)} -m examples.demo superuser you@example.com",
        flush=True,
    )
    with running_provider(settings) as provider:
        uvicorn.run(create_app(settings, provider), host=options.host, port=options.port, log_level="warning")
    return 0


async def make_superuser(settings: Settings, email: str) -> int:
    """Through the manager, as in a route: whatever it checks and whichever hooks it calls, they are not left out."""
    database = Database(settings.data / "demo.db")
    async with database.opened(), database.new_session() as session:
        manager = UserManager(SQLAlchemyUserDatabase(session, User, OAuthAccount), settings, mailer=Outbox())
        try:
            user = await manager.get_by_email(email)
        except UserNotExists:
            print(f"There is no user {email}: register first.", file=sys.stderr)
            return 1
        await manager.update(UserUpdate(is_superuser=True), user)
    print(f"{user.email} is a superuser now.")
    return 0


def _parse(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser("python -m examples.demo", description="Without a command: serve the demo.")
    parser.add_argument("--host", default="127.0.0.1", help="the outbox shows every token: keep it on this machine")
    parser.add_argument("--port", default=8000, type=int)
    parser.add_argument("--data", default=Path(__file__).parent / "data", type=Path, help="for database and secrets")
    commands = parser.add_subparsers(dest="command")
    superuser = commands.add_parser("superuser", help="make a registered user a superuser")
    superuser.add_argument("email")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
