import uuid
from dataclasses import dataclass
from datetime import datetime, timezone

from fastapi_users.authentication.strategy.db import AccessTokenProtocol


def test_the_protocol_is_a_base_of_dataclasses() -> None:
    @dataclass
    class Token(AccessTokenProtocol[uuid.UUID]):
        token: str
        user_id: uuid.UUID
        created_at: datetime

    assert Token("T", uuid.uuid4(), datetime.now(timezone.utc)).token == "T"
