import asyncio
from typing import Any

import bson
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from tests.mongo_server import HEADER, INT32, OP_QUERY, OP_REPLY, mongo_server
from tests.services import connect_mongo


async def test_the_driver_writes_finds_and_deletes_documents() -> None:
    async with mongo_server() as url, AsyncMongoClient[dict[str, Any]](url) as client:
        notes = client["test"]["notes"]
        await notes.insert_many([{"n": number} for number in range(5)])

        assert [note["n"] async for note in notes.find({"n": {"$gt": 1}}, sort=[("n", -1)], limit=2)] == [4, 3]
        assert (await notes.update_many({"n": {"$lt": 2}}, {"$inc": {"n": 10}})).modified_count == 2
        assert (await notes.update_one({"n": {"$gte": 10}}, {"$set": {"n": 0}})).matched_count == 1
        assert (await notes.delete_one({"n": {"$gte": 0}})).deleted_count == 1
        assert (await notes.delete_many({"n": {"$gte": 2}})).deleted_count == 4
        assert await notes.count_documents({}) == 0
        await notes.drop()
        assert await client["test"].list_collection_names() == []


async def test_a_unique_index_refuses_duplicates_wherever_they_are_written() -> None:
    async with mongo_server() as url, AsyncMongoClient[dict[str, Any]](url) as client:
        notes = client["test"]["notes"]
        await notes.create_index("name", unique=True, collation={"locale": "en", "strength": 2})
        await notes.insert_many([{"name": "Ann"}, {"name": "bob"}])

        with pytest.raises(DuplicateKeyError):
            await notes.insert_one({"name": "ann"})
        with pytest.raises(BulkWriteError) as refused:
            await notes.insert_many([{"name": "cleo"}, {"name": "Bob"}, {"name": "dan"}])
        with pytest.raises(DuplicateKeyError):
            await notes.update_one({"name": "bob"}, {"$set": {"name": "ANN"}})
        with pytest.raises(DuplicateKeyError):
            await notes.find_one_and_update({"name": "bob"}, {"$set": {"name": "ANN"}})
        assert refused.value.details["nInserted"] == 1
        assert sorted([note["name"] async for note in notes.find()]) == ["Ann", "bob", "cleo"]
        assert "name_1" in await notes.index_information()


async def test_what_the_server_cannot_do_is_an_error_of_the_driver() -> None:
    async with mongo_server() as url, AsyncMongoClient[dict[str, Any]](url) as client:
        with pytest.raises(OperationFailure) as refused:
            await client["test"].command("distinct", "notes", key="name")
        with pytest.raises(OperationFailure, match="never"):
            await client["test"]["notes"].find_one({"name": {"$never": 1}})

    assert refused.value.code == 59


async def test_a_mongodb_that_does_not_answer_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)
    monkeypatch.setattr("tests.services.MISSING", set())

    with pytest.raises(pytest.skip.Exception, match="mongodb does not answer at mongodb://127"):
        await connect_mongo("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200")


async def test_drivers_of_old_shake_hands_in_another_opcode() -> None:
    async with mongo_server() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        question = INT32.pack(0) + b"admin.$cmd\0" + INT32.pack(0) + INT32.pack(-1) + bson.encode({"ismaster": 1})
        writer.write(HEADER.pack(HEADER.size + len(question), 7, 0, OP_QUERY) + question)
        length, _, answers, opcode = HEADER.unpack(await reader.readexactly(HEADER.size))
        answer = await reader.readexactly(length - HEADER.size)
        writer.close()
        await writer.wait_closed()

    assert (answers, opcode) == (7, OP_REPLY)
    assert bson.decode(answer[20:])["maxWireVersion"] == 21
