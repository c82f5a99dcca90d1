"""All from the environment. Without any it runs on this machine; one that names its database has to name its secrets."""

import os
import secrets

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///./full.db")
REDIS_URL = os.environ.get("REDIS_URL")  # several workers count together there; without it, one counts in its memory
BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000")  # where browsers reach this application
FRONTEND_URL = os.environ.get("FRONTEND_URL", "http://localhost:3000")  # whose pages take the tokens of the mails
TRUSTED_PROXIES = tuple(os.environ.get("TRUSTED_PROXIES", "").split())  # 10.0.0.0/8, separated by blanks

SMTP_HOST = os.environ.get("SMTP_HOST")  # without it, mails are printed
SMTP_PORT = int(os.environ.get("SMTP_PORT", "587"))
SMTP_SENDER = os.environ.get("SMTP_SENDER", "The example <accounts@example.com>")
SMTP_USERNAME = os.environ.get("SMTP_USERNAME")
SMTP_PASSWORD = os.environ.get("SMTP_PASSWORD")

OIDC_CLIENT_ID = os.environ.get("OIDC_CLIENT_ID")  # without it, nobody logs in with a provider
OIDC_CLIENT_SECRET = os.environ.get("OIDC_CLIENT_SECRET", "")
OIDC_CONFIGURATION_URL = os.environ.get("OIDC_CONFIGURATION_URL", "")

# Asks Have I Been Pwned about five digits of the hash of each new password, hence only where it is wanted.
REFUSE_BREACHED_PASSWORDS = os.environ.get("REFUSE_BREACHED_PASSWORDS") == "1"


def _secret(name: str) -> str:
    """As ``fastapi-users secret`` prints it. A new one at every start ends sessions and mailed tokens with the process."""
    return os.environ[name] if "DATABASE_URL" in os.environ else os.environ.get(name) or secrets.token_urlsafe(32)


ACCESS_TOKEN_SECRET = _secret("ACCESS_TOKEN_SECRET")
MAILED_TOKEN_SECRET = _secret("MAILED_TOKEN_SECRET")
OAUTH_STATE_SECRET = _secret("OAUTH_STATE_SECRET")
PROVIDER_TOKEN_SECRET = _secret("PROVIDER_TOKEN_SECRET")  # what it has encrypted, nothing else reads
