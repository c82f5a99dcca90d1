"""`python -m app.db && uvicorn app.main:app`

With `DATABASE_URL`, `REDIS_URL` and the secrets set, also `--workers 2`: otherwise each has secrets of its own, and knows no token of the other.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request, status

from fastapi_users.authentication.fresh import REAUTHENTICATION_RESPONSES
from fastapi_users.doctor import require_tables
from fastapi_users.features.sessions import get_sessions_admin_router, get_sessions_router
from fastapi_users.features.throttle import THROTTLE_RESPONSES, get_throttled_router, rate_limit

from .db import User, engine
from .limits import throttle
from .provider import get_provider_routers
from .schemas import UserCreate, UserRead, UserUpdate
from .users import (
    FRESH_SECONDS,
    UserManager,
    bearer,
    browser,
    current_fresh_user,
    current_user,
    fastapi_users,
    get_user_manager,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await require_tables(fastapi_users, app)
    yield
    await throttle.aclose()
    await engine.dispose()


app = FastAPI(title="Everything on", lifespan=lifespan)


# Before the routes of the users, to whose DELETE /{id} "me" would be an id, and for superusers only.
@app.delete("/users/me", status_code=status.HTTP_204_NO_CONTENT, responses=REAUTHENTICATION_RESPONSES, tags=["users"])
async def delete_my_account(
    request: Request,
    user: User = Depends(current_fresh_user),
    user_manager: UserManager = Depends(get_user_manager),
) -> None:
    """For good. Whoever finds an unlocked computer must not, hence the proof of the last ten minutes."""
    await user_manager.delete(user, request)


routers = [
    ("/auth", "auth", fastapi_users.get_register_router(UserRead, UserCreate, neutral=True)),
    ("/auth", "auth", fastapi_users.get_verify_router(UserRead)),
    ("/auth", "auth", fastapi_users.get_reset_password_router()),
    ("/users", "users", get_sessions_admin_router(fastapi_users)),
    ("/users", "users", fastapi_users.get_users_router(UserRead, UserUpdate, requires_current_password=True)),
    ("/account", "account", fastapi_users.get_oauth_accounts_router(fresh=FRESH_SECONDS)),
    *get_provider_routers(),
]
for backend in (browser, bearer):
    routers += [
        (f"/auth/{backend.name}", backend.name, fastapi_users.get_auth_router(backend)),
        (f"/auth/{backend.name}", backend.name, fastapi_users.get_reauthenticate_router(backend)),
        (f"/auth/{backend.name}", backend.name, get_sessions_router(fastapi_users, backend)),
    ]
for prefix, tag, router in routers:
    app.include_router(get_throttled_router(fastapi_users, router), prefix=prefix, tags=[tag])

by_user = rate_limit("60/minute", get_user_manager, by=current_user)


@app.get("/hello", dependencies=[Depends(by_user)], responses=THROTTLE_RESPONSES)
async def hello(user: User = Depends(current_user)) -> str:
    return f"Hello, {user.nickname or user.email}!"
