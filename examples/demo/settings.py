import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, SecretStr


class Secrets(BaseModel):
    """One for each kind of token, so that each can be replaced without the others."""

    access_token: SecretStr
    reset_password_token: SecretStr
    verification_token: SecretStr


@dataclass(frozen=True)
class Settings:
    """``data`` is the folder of everything that survives a restart, ``base_url`` where users reach the demo."""

    data: Path
    base_url: str
    secrets: Secrets


def load_settings(data: Path, base_url: str = "http://127.0.0.1:8000") -> Settings:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)  # password hashes and logins are nobody else's business
    return Settings(data, base_url, _load_secrets(data / "secrets.json"))


def _load_secrets(file: Path) -> Secrets:
    """Made on the first run: a secret that stands in the code is known to everybody who reads it."""
    if not file.exists():
        file.touch(mode=0o600)  # before there is something to read
        file.write_text(json.dumps({name: secrets.token_urlsafe(32) for name in Secrets.model_fields}))
    return Secrets.model_validate_json(file.read_bytes())
