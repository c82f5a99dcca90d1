import os
import secrets

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///./accounts.db")
# Made by `fastapi-users secret`, and kept out of the code. A new one at every start makes mailed tokens end with it.
SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
FRONTEND_URL = os.environ.get("FRONTEND_URL", "http://localhost:3000")
