from fastapi.security import HTTPBearer

from fastapi_users.authentication import Transport


def test_a_transport_may_implement_only_a_part() -> None:
    class SchemeOnly(Transport):
        scheme = HTTPBearer()

    transport = SchemeOnly()  # type: ignore[abstract]  # nothing is abstract at run time
    assert isinstance(transport.scheme, HTTPBearer)
