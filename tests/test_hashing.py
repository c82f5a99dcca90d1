"""The pool itself, and what a full queue means to a client. What is hashed is test_password.py."""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import anyio
import anyio.lowlevel
import pytest

from fastapi_users.hashing import HashingPool, HashingQueueFull, hashing_pool
from tests.world import PASSWORD, UserCreate, UserManager, UserRead, World

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Gate:
    """Work that begins and then waits until it may end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, answer: str = "") -> str:
        self.threads.append(threading.current_thread())
        assert self.may_end.wait(30)
        return answer

    async def begun(self, count: int = 1) -> None:
        await until(lambda: len(self.threads) == count)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 -- of a thread
            await anyio.sleep(0.001)


async def turns() -> None:
    """Time in which what may happen would."""
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.may_end.set()


@pytest.fixture
def pool() -> Iterator[HashingPool]:
    """One thread."""
    pool = HashingPool()
    pool.threads = 1
    yield pool
    pool.idle_seconds = 0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_a_result_comes_back(pool: HashingPool) -> None:
    assert await pool.run(int, "12") == 12


async def test_an_error_comes_back_and_the_thread_goes_on(pool: HashingPool) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await pool.run(int, "twelve")
    assert await pool.run(int, "12") == 12


async def test_the_end_of_a_thread_is_an_error_of_whoever_asked_for_it(pool: HashingPool) -> None:
    with pytest.raises(SystemExit):
        await pool.run(sys.exit)
    assert await pool.run(int, "12") == 12


async def test_context_variables_are_those_of_the_caller(pool: HashingPool) -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("mine")

    assert await pool.run(variable.get) == "mine"
    await pool.run(variable.set, "the thread's")
    assert variable.get() == "mine"


async def test_no_more_run_at_once_than_there_are_threads_and_the_loop_goes_on(pool: HashingPool, gate: Gate) -> None:
    """E11"""
    pool.threads = 2
    answers: list[str] = []

    async def ask(name: str) -> None:
        answers.append(await pool.run(gate, name))

    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(ask, name)
        await gate.begun(2)
        await turns()
        assert len(gate.threads) == 2
        assert threading.current_thread() not in gate.threads
        gate.may_end.set()

    assert sorted(answers) == ["a", "b", "c"]


async def test_one_idle_thread_is_enough_for_one_after_the_other(pool: HashingPool) -> None:
    pool.threads = 2
    await pool.run(int, "12")
    await until(lambda: pool._busy == 0)

    await pool.run(int, "12")
    assert pool._running == 1


@pytest.mark.parametrize("count", [0, -1])
async def test_a_pool_without_threads_is_refused_before_anybody_waits_for_one(pool: HashingPool, count: int) -> None:
    with pytest.raises(ValueError, match=f"hashing_pool.threads = {count}"):
        pool.threads = count
    assert await pool.run(int, "12") == 12


async def test_first_come_first_served(pool: HashingPool, gate: Gate) -> None:
    served: list[str] = []

    async def ask(name: str) -> None:
        await pool.run(served.append, name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.run, gate)
        await gate.begun()
        for number, name in enumerate("abc", start=1):
            tasks.start_soon(ask, name)
            await until(lambda wanted=number: len(pool._queue) == wanted)  # type: ignore[misc]  # a default makes it any
        gate.may_end.set()

    assert served == ["a", "b", "c"]


async def test_what_nobody_waits_for_any_more_is_not_begun(pool: HashingPool, gate: Gate) -> None:
    done: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.run, gate)
        await gate.begun()
        async with anyio.create_task_group() as others:
            others.start_soon(pool.run, done.append, "for nobody")
            await until(lambda: len(pool._queue) == 1)
            others.cancel_scope.cancel()
        assert len(pool._queue) == 0
        gate.may_end.set()

    await pool.run(done.append, "for us")
    assert done == ["for us"]


async def test_whoever_goes_while_it_runs_does_not_wait_for_it(pool: HashingPool, gate: Gate) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.run, gate)
        await gate.begun()
        tasks.cancel_scope.cancel()
    gate.may_end.set()

    assert await pool.run(int, "12") == 12


async def test_a_thread_without_work_ends(pool: HashingPool) -> None:
    pool.idle_seconds = 0
    thread = await pool.run(threading.current_thread)

    await until(lambda: not thread.is_alive())
    assert pool._running == 0
    assert await pool.run(int, "12") == 12


async def test_threads_end_when_there_should_be_fewer(pool: HashingPool, gate: Gate) -> None:
    pool.threads = 2
    async with anyio.create_task_group() as tasks:
        for _ in "ab":
            tasks.start_soon(pool.run, gate)
        await gate.begun(2)
        gate.may_end.set()
    await until(lambda: pool._busy == 0)

    pool.threads = 1
    for _ in range(3):
        await pool.run(int, "12")
    await until(lambda: pool._running == 1)


async def test_a_system_without_threads_is_an_error_at_once(pool: HashingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            await pool.run(int, "12")
    assert await pool.run(int, "12") == 12


async def test_without_another_thread_the_first_does_it_all(
    pool: HashingPool, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.threads = 2

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.run, gate)
        await gate.begun()
        monkeypatch.setattr(threading.Thread, "start", refuse)
        tasks.start_soon(pool.run, gate)
        await until(lambda: len(pool._queue) == 1)
        gate.may_end.set()


# the queue


async def test_a_full_queue_refuses_and_says_when_to_come_back(pool: HashingPool, gate: Gate) -> None:
    pool.max_waiting_per_thread = 2
    async with anyio.create_task_group() as tasks:
        for _ in "abc":  # one runs, two wait
            pool.refuse_if_full()
            tasks.start_soon(pool.run, gate)
            await anyio.lowlevel.checkpoint()
        await gate.begun()
        await until(lambda: len(pool._queue) == 2)
        with pytest.raises(HashingQueueFull) as refusal:
            await pool.run(gate)
        with pytest.raises(HashingQueueFull):
            pool.refuse_if_full()
        pool._seconds = 7.2
        with pytest.raises(HashingQueueFull) as later:
            await pool.run(gate)
        tasks.start_soon(lambda: pool.run(gate, is_patient=True))
        pool.max_waiting_per_thread = None
        tasks.start_soon(pool.run, gate)
        await until(lambda: len(pool._queue) == 4)
        gate.may_end.set()

    assert (refusal.value.status_code, refusal.value.detail) == (503, "HASHING_QUEUE_FULL")
    assert refusal.value.headers == {"Retry-After": "1"}
    assert later.value.headers == {"Retry-After": "15"}


async def test_where_nobody_may_wait_free_threads_are_still_used(pool: HashingPool, gate: Gate) -> None:
    pool.threads, pool.max_waiting_per_thread = 2, 0
    async with anyio.create_task_group() as tasks:
        for _ in "ab":
            tasks.start_soon(pool.run, gate)
        await gate.begun(2)
        with pytest.raises(HashingQueueFull):
            await pool.run(gate)
        gate.may_end.set()


@pytest.fixture
def full_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing_pool, "max_waiting_per_thread", -1)


ANN = {"username": "ann@example.org", "password": PASSWORD}


@asyncio_only
async def test_a_full_queue_is_503_for_known_and_unknown_users_alike_and_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await world.insert_user()
    headers = await world.log_in()
    await world.client.post("/auth/forgot-password", json={"email": user.email})
    token = world.outbox.token(to=user.email)
    monkeypatch.setattr(hashing_pool, "max_waiting_per_thread", -1)
    client, new = world.client, {"email": "new@example.org", "password": PASSWORD}

    answers = [
        await client.post("/auth/jwt/login", data=ANN),
        await client.post("/auth/cookie/login", data={**ANN, "password": "wrong"}),
        await client.post("/auth/jwt/login", data={**ANN, "username": "nobody@example.org"}),
        await client.post("/auth/register", json=new),
        await client.post("/auth/reset-password", json={"token": token, "password": "another password"}),
        await client.post("/auth/jwt/reauthenticate", json={"password": PASSWORD}, headers=headers),
        await client.patch("/users/me", json={"password": "another password", "nickname": "A"}, headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [503] * len(answers)
    assert {answer.text for answer in answers} == {'{"detail":"HASHING_QUEUE_FULL"}'}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    monkeypatch.undo()
    assert (await client.post("/auth/jwt/login", data={**ANN, "username": "new@example.org"})).status_code == 400
    assert (await world.reload(user)).nickname is None  # type: ignore[union-attr]  # it is there
    assert (await client.post("/auth/jwt/login", data=ANN)).status_code == 200
    body = {"token": token, "password": "another password"}
    assert (await client.post("/auth/reset-password", json=body)).status_code == 200


class ManagerWithAnotherHelper(UserManager):
    """Which has no fingerprints, so that what is mailed is hashed."""

    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, world)
        self.password_helper = helper = MagicMock()
        helper.hash.return_value = "hashed"
        helper.verify_and_update.return_value = (True, None)


@asyncio_only
@pytest.mark.usefixtures("full_pool")
async def test_what_happens_after_the_answer_waits_however_full_it_is(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}", manager_class=ManagerWithAnotherHelper) as world:
        user = await world.insert_user()
        answer = await world.client.post("/auth/forgot-password", json={"email": user.email})

        assert answer.status_code == 202
        assert world.outbox.token(to=user.email)


@asyncio_only
async def test_a_neutral_registration_is_refused_before_it_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.insert_user()
    router = world.fastapi_users.get_register_router(UserRead, UserCreate, neutral=True)
    world.app.include_router(router, prefix="/neutral")
    bodies = [{"email": email, "password": PASSWORD} for email in ("ann@example.org", "new@example.org")]
    with monkeypatch.context() as patch:
        patch.setattr(hashing_pool, "max_waiting_per_thread", -1)
        refused = [await world.client.post("/neutral/register", json=body) for body in bodies]
    taken = [await world.client.post("/neutral/register", json=body) for body in bodies]

    assert [(answer.status_code, answer.text) for answer in refused] == [(503, '{"detail":"HASHING_QUEUE_FULL"}')] * 2
    assert [answer.status_code for answer in taken] == [202, 202]
    paths = world.app.openapi()["paths"]
    assert "503" in paths["/neutral/register"]["post"]["responses"]
    assert "503" in paths["/auth/jwt/reauthenticate"]["post"]["responses"]
    assert "503" not in paths["/auth/register"]["post"]["responses"]  # the document of version 15


# the process


def test_several_event_loops_share_the_threads(pool: HashingPool, gate: Gate) -> None:
    answers: list[int] = []

    def serve(backend: str) -> None:
        answers.append(anyio.run(pool.run, int, "12", backend=backend))

    loops = [threading.Thread(target=serve, args=[backend]) for backend in ("asyncio", "trio", "asyncio")]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()

    assert answers == [12, 12, 12]
    assert pool._running == 1


def test_a_loop_that_has_ended_meanwhile_is_no_error_in_the_thread(pool: HashingPool, gate: Gate) -> None:
    async def begin_and_leave() -> None:
        asyncio.get_running_loop().create_task(pool.run(gate))
        await gate.begun()

    asyncio.run(begin_and_leave())
    gate.may_end.set()

    assert asyncio.run(pool.run(int, "12")) == 12


def test_an_older_anyio_gives_the_loop_itself_as_a_token(pool: HashingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    token = anyio.lowlevel.current_token
    monkeypatch.setattr(anyio.lowlevel, "current_token", lambda: getattr(token(), "native_token", token()))

    assert asyncio.run(pool.run(int, "12")) == 12


def in_a_process_of_its_own(code: str) -> str:
    finished = subprocess.run(  # noqa: S603 -- ours
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


FORK = """
import asyncio, os, warnings
from fastapi_users.hashing import hashing_pool

warnings.simplefilter("ignore")  # that a process with threads forks
asyncio.run(hashing_pool.run(int, "12"))
child = os.fork()
os.write(1, b"%d\\n" % asyncio.run(hashing_pool.run(int, "34")))  # in one piece
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_a_fork_has_threads_of_its_own() -> None:
    assert in_a_process_of_its_own(FORK).split() == ["34", "34"]


END = """
import asyncio, threading, time
from fastapi_users.hashing import hashing_pool

hashing_pool.threads = 1
begun = threading.Event()

async def begin_and_leave():
    for _ in range(3):
        asyncio.get_running_loop().create_task(hashing_pool.run(lambda: (begun.set(), time.sleep(600))))
    while not begun.is_set():
        await asyncio.sleep(0.001)

asyncio.run(begin_and_leave())
print("left")
"""


def test_the_process_ends_in_the_midst_of_a_hash() -> None:
    assert in_a_process_of_its_own(END) == "left\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
async def test_the_threads_give_way_to_the_event_loop_alone(pool: HashingPool) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)

    before = niceness()

    assert await pool.run(niceness) == min(19, before + pool.niceness)
    assert niceness() == before


async def test_a_system_that_refuses_a_priority_hashes_all_the_same(
    pool: HashingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    assert await pool.run(int, "12") == 12


async def test_other_systems_are_not_asked(pool: HashingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "setpriority", lambda *arguments: asked.extend(arguments))
    monkeypatch.setattr("sys.platform", "darwin")

    assert await pool.run(int, "12") == 12
    assert asked == []


@pytest.mark.parametrize(
    ("known", "cores"),
    [
        ({"process_cpu_count": lambda: 3}, 3),
        ({"process_cpu_count": lambda: None}, 1),
        ({"process_cpu_count": None, "sched_getaffinity": lambda pid: {4, 5}}, 2),
        ({"process_cpu_count": None, "sched_getaffinity": None, "cpu_count": lambda: 5}, 5),
        ({"process_cpu_count": None, "sched_getaffinity": None, "cpu_count": lambda: None}, 1),
    ],
)
def test_there_are_as_many_threads_as_cores_that_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, Any], cores: int
) -> None:
    for name, function in known.items():
        if function is None:
            monkeypatch.delattr(os, name, raising=False)
        else:
            monkeypatch.setattr(os, name, function, raising=False)

    assert HashingPool().threads == cores
