from fastapi_users.authentication.strategy.db import AccessTokenDatabase
from fastapi_users.testing import AccessToken


def test_an_adapter_may_implement_only_a_part() -> None:
    class Nothing(AccessTokenDatabase[AccessToken]):
        pass

    assert isinstance(Nothing(), Nothing)  # type: ignore[abstract]  # nothing is abstract at run time
