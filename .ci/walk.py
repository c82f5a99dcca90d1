"""What an installed wheel can do, without anything but itself: a program for environments that have no tests.

With the name of an extra as its argument, what that extra is for has to be there; with "all of it", what all are for.
"""

import asyncio
import json
import os
import pkgutil
import sys
import uuid
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

EXTRAS = {
    "sqlalchemy": ["fastapi_users.db.sqlalchemy", "fastapi_users_db_sqlalchemy.access_token"],
    "beanie": ["fastapi_users.db.beanie", "fastapi_users_db_beanie.access_token"],
    "redis": ["fastapi_users.authentication.strategy.redis"],
    "oauth": ["fastapi_users.router.oauth"],
    "mail": ["fastapi_users.mail.render", "fastapi_users.mail.smtp"],
    "breached": ["fastapi_users.breached_passwords", "httpx"],
    "throttle": ["fastapi_users.features.throttle.limits"],
    "testing": ["fastapi_users.testing", "time_machine"],
    "cli": ["fastapi_users.cli"],
}
MODULES = {**EXTRAS, "": [], "all of it": [module for modules in EXTRAS.values() for module in modules]}


async def ask(app: Any, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    """Dictionaries go as JSON, texts as a form."""
    status, answer = 0, b""
    is_form = isinstance(body, str)
    content = (body if is_form else json.dumps(body)).encode()
    kind = b"application/x-www-form-urlencoded" if is_form else b"application/json"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, answer
        status, answer = message.get("status", status), answer + message.get("body", b"")

    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    headers += [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": ("localhost", 443),
        "state": {},
    }
    await app(scope, receive, send)
    return status, json.loads(answer or b"null")


async def walk(app: Any, login_path: str) -> None:
    async with app.router.lifespan_context(app):
        user = {"email": "ann@example.com", "password": "correct horse battery"}
        status, answer = await ask(app, "POST", "/auth/register", user)
        assert status == 201, answer
        form = urlencode({"username": user["email"], "password": user["password"]})
        status, answer = await ask(app, "POST", login_path, form)
        assert status == 200, answer
        token = answer["access_token"]
        status, answer = await ask(app, "PATCH", "/users/me", {"password": "another horse battery"}, token)
        assert status == 200, answer
        assert answer["email"] == user["email"]
        status, _ = await ask(app, "POST", login_path, form)
        assert status == 400


def application_in_memory() -> Any:
    from fastapi import FastAPI

    from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
    from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
    from fastapi_users.password_policy import PasswordPolicy
    from fastapi_users.testing import InMemoryUserDatabase, User

    secret = "0123456789" * 4
    users = InMemoryUserDatabase[User, uuid.UUID](User)

    class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
        reset_password_token_secret = verification_token_secret = secret
        password_policy = PasswordPolicy()  # reads a file of the wheel

    backend = AuthenticationBackend[User, uuid.UUID](
        "jwt", BearerTransport("auth/login"), lambda: JWTStrategy(secret, 3600)
    )
    fastapi_users = FastAPIUsers[User, uuid.UUID](lambda: UserManager(users), [backend])
    app = FastAPI()
    app.include_router(fastapi_users.get_auth_router(backend), prefix="/auth")
    read, create, update = schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate, schemas.BaseUserUpdate
    app.include_router(fastapi_users.get_register_router(read, create), prefix="/auth")
    app.include_router(fastapi_users.get_users_router(read, update), prefix="/users")
    return app


def import_everything() -> list[str]:
    """The modules that need an extra, each of which has to name it."""
    refused = []
    for package in ("fastapi_users", "fastapi_users_db_beanie", "fastapi_users_db_sqlalchemy"):
        try:
            found = import_module(package)
        except ModuleNotFoundError as error:
            assert 'pip install "fastapi-users[' in str(error), error
            refused.append(package)
            continue
        for module in pkgutil.walk_packages(found.__path__, f"{package}.", onerror=lambda _: None):
            try:
                import_module(module.name)
            except ModuleNotFoundError as error:
                assert 'pip install "fastapi-users[' in str(error), error
                refused.append(module.name)
    return refused


def main() -> None:
    import fastapi_users

    place = Path(fastapi_users.__file__).parent
    expected = os.environ.get("EXPECTED_FOLDER", sys.prefix)
    assert place.is_relative_to(expected), f"{place} is not what was installed"
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name == "legacy":  # in its folder
        sys.path.insert(0, "")
        asyncio.run(walk(import_module("app.app").app, "/auth/jwt/login"))
    else:
        for module in MODULES[name]:
            import_module(module)
        refused = import_everything()
        assert name or "fastapi_users.db.sqlalchemy" in refused
        asyncio.run(walk(application_in_memory(), "/auth/login"))
    print(f"{name or 'nothing but the wheel'}: good")


main()
