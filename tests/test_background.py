import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint
from fastapi import Request

from fastapi_users.background import AFTER_RESPONSE, AfterResponse, Queue, Work, collect, do_later, waiting_for

SECRET = "a token of ann@example.org"


class Done:
    """Work that notes down when it is done."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.errors: list[Exception] = []

    def work(self, name: str, *, then: Callable[[], Awaitable[None]] | None = None) -> Work:
        async def do() -> None:
            self.names.append(name)
            if then is not None:
                await then()

        return Work(do=do, failure=f"{name} failed", on_error=self.on_error)

    async def on_error(self, error: Exception) -> None:
        self.errors.append(error)


@pytest.fixture
def done() -> Done:
    return Done()


async def fail() -> None:
    raise OSError(SECRET)


async def test_what_waits_is_done_in_the_order_in_which_it_came(done: Done) -> None:
    queue = Queue()
    await queue.add(done.work("first", then=lambda: queue.add(done.work("third"))))
    await queue.add(done.work("second"))
    assert done.names == []

    await queue.run()

    assert done.names == ["first", "second", "third"]


async def test_what_comes_when_it_is_over_is_done_at_once(done: Done) -> None:
    """Nothing is lost that somebody leaves for later when there is no later."""
    queue = Queue()
    await queue.run()

    await queue.add(done.work("late"))

    assert done.names == ["late"]


async def test_what_nobody_comes_to_do_is_logged(done: Done, caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue()
    await queue.add(done.work("forgotten"))

    queue.close()

    assert done.names == []
    assert caplog.record_tuples == [
        ("fastapi_users.background", logging.ERROR, "forgotten failed (the request ended before)")
    ]


async def test_a_failure_is_logged_with_its_kind_and_place_and_handed_over_and_the_next_is_done(
    done: Done, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()
    await queue.add(done.work("first", then=fail))
    await queue.add(done.work("second"))

    await queue.run()

    assert done.names == ["first", "second"]
    assert [str(error) for error in done.errors] == [SECRET]
    (message,) = caplog.messages
    assert message.startswith("first failed (OSError)\n")
    assert f'File "{__file__}"' in message
    assert ", in fail" in message
    assert SECRET not in caplog.text


async def test_an_error_of_the_handler_of_errors_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fail_too(error: Exception) -> None:
        raise LookupError(SECRET)

    await Work(do=fail, failure="It failed", on_error=fail_too)()

    assert [message.splitlines()[0] for message in caplog.messages] == [
        "It failed (OSError)",
        "It failed (LookupError)",
    ]
    assert SECRET not in caplog.text


async def test_an_error_need_not_be_handed_to_anybody(caplog: pytest.LogCaptureFixture) -> None:
    await Work(do=fail, failure="It failed")()

    assert len(caplog.messages) == 1


async def test_a_middleware_that_gives_up_ends_no_work(done: Done) -> None:
    """BaseHTTPMiddleware cancels the application when the client is gone."""
    queue = Queue()
    with anyio.CancelScope() as scope:

        async def give_up() -> None:
            scope.cancel()
            await checkpoint()

        await queue.add(done.work("first", then=give_up))
        await queue.add(done.work("second", then=checkpoint))
        await queue.run()

    assert done.names == ["first", "second"]
    assert done.errors == []


async def test_a_server_that_stops_is_obeyed_and_what_was_not_done_is_logged(
    done: Done, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()
    began = asyncio.Event()

    async def wait_for_ever() -> None:
        began.set()
        await asyncio.Event().wait()

    await queue.add(done.work("first", then=wait_for_ever))
    await queue.add(done.work("second"))
    task = asyncio.create_task(queue.run())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert done.names == ["first"]
    assert [message.splitlines()[0] for message in caplog.messages] == [
        "first failed (CancelledError)",
        "second failed (the request ended before)",
    ]


def new_request() -> Request:
    return Request({"type": "http"})


@pytest.mark.parametrize("needs_dependencies", [True, False])
async def test_work_waits_where_somebody_collects_and_is_done_at_once_elsewhere(
    done: Done, needs_dependencies: bool
) -> None:
    request = new_request()
    after_response = collect(request.scope)
    assert waiting_for(request) is after_response

    await do_later(done.work("later"), request=request, needs_dependencies=needs_dependencies)
    await do_later(done.work("in another request"), request=new_request(), needs_dependencies=needs_dependencies)
    await do_later(done.work("in a script"), request=None, needs_dependencies=needs_dependencies)
    assert done.names == ["in another request", "in a script"]

    await (after_response.while_open if needs_dependencies else after_response.when_closed).run()
    assert done.names[2:] == ["later"]


async def test_a_collection_belongs_to_one_request(done: Done) -> None:
    first, second = new_request(), new_request()
    collections = [collect(request.scope) for request in (first, second)]
    await do_later(done.work("first"), request=first, needs_dependencies=True)

    assert [len(collection.while_open.waiting) for collection in collections] == [1, 0]


def test_what_another_library_keeps_under_the_same_key_is_left_alone() -> None:
    assert waiting_for(Request({"type": "http", AFTER_RESPONSE: "something else"})) is None
    assert isinstance(collect({}), AfterResponse)
