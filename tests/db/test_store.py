from fastapi_users.db import store


def test_conditions_have_the_names_of_what_they_compare() -> None:
    assert store.less_than(1) == store.Condition("<", 1)
    assert store.at_most(1) == store.Condition("<=", 1)
    assert store.greater_than(1) == store.Condition(">", 1)
    assert store.at_least(1) == store.Condition(">=", 1)
    assert store.other_than(None) == store.Condition("!=", None)
    assert store.one_of((1, 2)) == store.Condition("in", [1, 2])


def test_an_increment_is_one_unless_told() -> None:
    assert store.Increment() == store.Increment(1)
