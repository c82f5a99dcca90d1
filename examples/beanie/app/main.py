from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from .db import User, connected
from .schemas import UserCreate, UserRead, UserUpdate
from .users import backend, current_user, fastapi_users


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with connected():
        yield


app = FastAPI(title="Users with Beanie", lifespan=lifespan)
app.include_router(fastapi_users.get_auth_router(backend), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_register_router(UserRead, UserCreate, neutral=True), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_verify_router(UserRead), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_reset_password_router(), prefix="/auth", tags=["auth"])
app.include_router(
    fastapi_users.get_users_router(UserRead, UserUpdate, requires_current_password=True),
    prefix="/users",
    tags=["users"],
)


@app.get("/hello")
async def hello(user: User = Depends(current_user)) -> str:
    return f"Hello, {user.nickname or user.email}!"
