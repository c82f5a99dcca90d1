from typing import Any, get_args

from fastapi_users.types import RETURN_TYPE, DependencyCallable


def test_a_dependency_is_a_generic_callable() -> None:
    alias: Any = DependencyCallable
    assert alias.__parameters__ == (RETURN_TYPE,)
    parameters, result = get_args(alias[int])
    assert parameters is Ellipsis
    assert int in get_args(result)
