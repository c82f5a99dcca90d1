"""User management for FastAPI."""

from fastapi_users import models, schemas
from fastapi_users.exceptions import InvalidID, InvalidPasswordException
from fastapi_users.fastapi_users import FastAPIUsers
from fastapi_users.manager import BaseUserManager, IntegerIDMixin, UUIDIDMixin

__version__ = "16.0.0"

__all__ = [
    "models",
    "schemas",
    "FastAPIUsers",
    "BaseUserManager",
    "InvalidPasswordException",
    "InvalidID",
    "UUIDIDMixin",
    "IntegerIDMixin",
]
