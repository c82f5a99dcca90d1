import json
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, SecretStr

from fastapi_users.mail import MailTemplates


class Secrets(BaseModel):
    """One for each kind of token, so that each can be replaced without the others."""

    access_token: SecretStr
    oauth_state: SecretStr
    reset_password_token: SecretStr
    verification_token: SecretStr


@dataclass(frozen=True)
class Settings:
    """``data`` is the folder of everything that survives a restart, ``base_url`` where users reach the demo."""

    data: Path
    base_url: str
    secrets: Secrets

    @cached_property
    def mail_templates(self) -> MailTemplates:
        """The library's mails; to two of them the folder adds the token. Made once: it compiles them."""
        return MailTemplates(
            Path(__file__).parent / "mails",
            site_name="fastapi-users demo",
            # Not from the request: its Host header says what the sender likes, and the link would carry the token there.
            verify_url=f"{self.base_url}/verify",
            reset_password_url=f"{self.base_url}/reset-password",
        )


def load_settings(data: Path, base_url: str = "http://127.0.0.1:8000") -> Settings:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)  # password hashes and logins are nobody else's business
    return Settings(data, base_url, _load_secrets(data / "secrets.json"))


def _load_secrets(file: Path) -> Secrets:
    """Made where one is missing: a secret that stands in the code is known to everybody who reads it."""
    known = json.loads(file.read_bytes()) if file.exists() else {}
    missing = {name: secrets.token_urlsafe(32) for name in Secrets.model_fields if name not in known}
    if missing:
        file.touch(mode=0o600)  # before there is something to read
        file.write_text(json.dumps(known | missing))
    return Secrets.model_validate(known | missing)
