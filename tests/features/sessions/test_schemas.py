import uuid
from datetime import datetime, timezone

from fastapi_users.features.sessions.models import Session
from fastapi_users.features.sessions.schemas import session_read

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)


def test_what_a_user_is_shown_of_a_session_is_nothing_to_use_it_with() -> None:
    session = Session(
        id=uuid.uuid4(),
        user_id=1,
        digest="DIGEST",
        previous_digest="PREVIOUS",
        credentials_digest="CREDENTIALS",
        generation=7,
        rotated_at=NOW,
        is_remembered=True,
        auth_time=NOW,
        amr="pwd otp",
        address="192.0.2.1",
        agent="curl/8.5.0",
        created_at=NOW,
        last_seen_at=NOW,
        expires_at=NOW,
        ends_at=NOW,
    )

    shown = session_read(session, current_id=session.id)

    assert shown.model_dump() == {
        "id": session.id,
        "device": "curl/8.5.0",
        "address": "192.0.2.1",
        "created_at": NOW,
        "last_seen_at": NOW,
        "expires_at": NOW,
        "is_current": True,
    }
    assert not session_read(session, current_id=None).is_current
