"""A MongoDB to test with where there is none: mongomock's documents behind the wire protocol, for the real driver.

Beyond mongomock it knows what users need: collations that ignore letter case, also in unique indexes, and array filters.
Each command is one step, as MongoDB has it for one document.
"""

import asyncio
import re
import struct
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import bson
import mongomock
from mongomock.filtering import filter_applies
from pymongo.errors import DuplicateKeyError, OperationFailure, WriteError

# https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
HEADER = struct.Struct("<iiii")  # length, number of the message, number of the one it answers, opcode
INT32 = struct.Struct("<i")
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
BODY, SEQUENCE = b"\0", b"\1"

Document = dict[str, Any]


@asynccontextmanager
async def mongo_server() -> AsyncIterator[str]:
    """An empty server on a free port: its URL."""
    documents, connections = MongoServer(), dict[asyncio.Task[None] | None, asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, number, _, opcode = HEADER.unpack(await reader.readexactly(HEADER.size))
                answer = documents.answer(opcode, await reader.readexactly(length - HEADER.size))
                opcode = {OP_QUERY: OP_REPLY}.get(opcode, opcode)
                writer.write(HEADER.pack(HEADER.size + len(answer), 0, number, opcode) + answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "mongodb://{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for writer in connections.values():
            writer.close()
        await asyncio.gather(*filter(None, connections))


class MongoServer:
    def __init__(self) -> None:
        self.client: Any = mongomock.MongoClient()
        self.commands: dict[str, Callable[[Document], Document]] = {
            "aggregate": self.aggregate,
            "buildInfo": lambda _: {"version": "7.0.0"},
            "createIndexes": self.create_indexes,
            "delete": partial(self.write, "deletes", self.delete),
            "drop": lambda command: {"ns": self.collection(command).drop()},
            "dropDatabase": lambda command: {"dropped": self.client.drop_database(command["$db"])},
            "find": self.find,
            "findAndModify": self.find_and_modify,
            "hello": lambda _: HELLO,
            "insert": partial(self.write, "documents", self.insert),
            "ismaster": lambda _: HELLO,
            "listCollections": self.list_collections,
            "listIndexes": lambda command: batch(self.collection(command).list_indexes()),
            "ping": lambda _: {},
            "update": partial(self.write, "updates", self.update),
        }

    def answer(self, opcode: int, message: bytes) -> bytes:
        if opcode == OP_QUERY:  # in which drivers shake hands: flags, a name, two numbers, the command
            command = bson.decode(message[message.index(b"\0", INT32.size) + 1 + 2 * INT32.size :])
            return struct.pack("<iqii", 0, 0, 0, 1) + bson.encode(self.run(command))
        return bytes(INT32.size) + BODY + bson.encode(self.run(dict(read_sections(message[INT32.size :]))))

    def run(self, command: Document) -> Document:
        name = next(iter(command))
        try:
            return {**self.commands.get(name, unknown_command)(command), "ok": 1}
        except Exception as error:  # noqa: BLE001 -- a server answers, whatever happens
            return {"ok": 0, "code": getattr(error, "code", None) or 8, "errmsg": f"{type(error).__name__}: {error}"}

    def collection(self, command: Document) -> Any:
        collection = self.client[command["$db"]][next(iter(command.values()))]
        ensure_uniques = collection._ensure_uniques

        def ensure_collated_uniques(document: Document) -> None:
            ensure_uniques(document)
            for index in collection._store.indexes.values():
                keys = [key for key, _ in index["key"]] if "collation" in index else []
                for key in keys:
                    if len(spellings(collection, key, document[key])) > 1:
                        raise DuplicateKeyError("E11000 duplicate key error", 11000)

        collection._ensure_uniques = ensure_collated_uniques
        return collection

    def aggregate(self, command: Document) -> Document:
        return batch(self.collection(command).aggregate(command["pipeline"]))

    def create_indexes(self, command: Document) -> Document:
        collection = self.collection(command)
        for index in command["indexes"]:
            options = {option: value for option, value in index.items() if option in ("name", "unique", "sparse")}
            collection.create_index(list(index["key"].items()), **options)
            collection._store.indexes[index["name"]].update({key: index[key] for key in index.keys() & {"collation"}})
        return {}

    def delete(self, collection: Any, delete: Document) -> tuple[int, int]:
        remove = collection.delete_one if delete["limit"] else collection.delete_many
        return remove(delete["q"]).deleted_count, 0

    def find(self, command: Document) -> Document:
        collection = self.collection(command)
        where = command["filter"]
        if command.get("collation", {}).get("strength", 3) < 3:
            where = {key: {"$in": spellings(collection, key, value)} for key, value in where.items()}
        sort = list(command.get("sort", {}).items()) or None
        return batch(collection.find(where, sort=sort, limit=command.get("limit", 0)))

    def find_and_modify(self, command: Document) -> Document:
        collection, where = self.collection(command), command["query"]
        update = command["update"]
        if "arrayFilters" in command:
            found = collection.find_one(where)
            update = {
                operator: dict(resolve(found, fields, command["arrayFilters"])) for operator, fields in update.items()
            }
        upsert = command.get("upsert", False)
        return {"value": collection.find_one_and_update(where, update, upsert=upsert, return_document=command["new"])}

    def insert(self, collection: Any, document: Document) -> tuple[int, int]:
        collection.insert_one(document)
        return 1, 0

    def list_collections(self, command: Document) -> Document:
        return batch({"name": name} for name in self.client[command["$db"]].list_collection_names())

    def update(self, collection: Any, update: Document) -> tuple[int, int]:
        change = collection.update_many if update["multi"] else collection.update_one
        result = change(update["q"], update["u"])
        return result.matched_count, result.modified_count

    def write(self, items: str, write: Any, command: Document) -> Document:
        collection, done, failures = self.collection(command), [], []
        try:
            for item in command[items]:
                done.append(write(collection, item))  # noqa: PERF401 -- what was done before a failure counts
        except WriteError as error:
            failures.append({"index": len(done), "code": error.code, "errmsg": str(error)})
        matched, modified = (sum(counts) for counts in zip((0, 0), *done, strict=True))
        return {"n": matched, "nModified": modified, "writeErrors": failures}


HELLO = {
    "helloOk": True,
    "isWritablePrimary": True,
    "ismaster": True,
    "maxBsonObjectSize": 16 * 2**20,
    "maxMessageSizeBytes": 48 * 10**6,
    "maxWireVersion": 21,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
}


def unknown_command(command: Document) -> Document:
    raise OperationFailure(f"no such command: {next(iter(command))}", 59)


def read_sections(sections: bytes) -> Iterator[tuple[str, Any]]:
    """The command, and the lists of documents that are sent beside it."""
    while sections:
        kind, (length,) = sections[:1], INT32.unpack_from(sections, 1)
        section, sections = sections[1 : 1 + length], sections[1 + length :]
        if kind == BODY:
            yield from bson.decode(section).items()
        else:
            name, _, documents = section[INT32.size :].partition(b"\0")
            yield name.decode(), bson.decode_all(documents)


def batch(documents: Iterable[Document]) -> Document:
    """All there is at once: nobody has to ask for more."""
    return {"cursor": {"id": 0, "ns": "all.of.it", "firstBatch": list(documents)}}


def spellings(collection: Any, key: str, value: str) -> list[str]:
    """What an index of strength 2 takes for this text: it looks past letter case and variants, not past accents."""
    stored = (document[key] for document in collection.find())
    return [text for text in stored if fold(text) == fold(value)]


def fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def resolve(document: Document, fields: Document, array_filters: list[Document]) -> Iterator[tuple[str, Any]]:
    """Put the places in an array for which a filter holds where its name stands in a path."""
    [where] = array_filters
    for path, value in fields.items():
        parts = re.fullmatch(r"(\w+)\.\$\[(\w+)\]\.(\w+)", path)
        if parts is None:
            yield path, value
            continue
        array, name, field = parts.groups()
        wanted = {key.removeprefix(f"{name}."): operand for key, operand in where.items()}
        for place, element in enumerate(document[array]):
            if filter_applies(wanted, element):  # type: ignore[no-untyped-call]  # mongomock has no types
                yield f"{array}.{place}.{field}", value
