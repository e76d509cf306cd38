"""One service's database in MongoDB, by plain finds.

There is no snapshot over several finds: what changes meanwhile can look wrong once. The second look is for that.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError

from loadtest.audit.doors.ports import CannotRead, Document, Stored

READ_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 3.0
COLLECTIONS = {
    "reservation": ("blocks", "reservations", "places", "tickets", "payment_keys"),
    "wallet": ("entries",),
    "queue": ("rooms", "sessions", "joins"),
    "catalog": ("concerts", "schedules"),
}
"""Each document carries its own waiting events, so all that may hold one have to be asked."""

_WAITS = {"outbox.0": {"$exists": True}}


class MongoDoor:
    """`url` is the system's STORE_URL: its path is the prefix of the services' databases."""

    def __init__(self, url: str, service: str) -> None:
        self._url = url
        self._service = service
        self._database = f"{urlsplit(url).path.strip('/') or 'stagedoor'}_{service}"

    def outbox(self) -> list[Stored]:
        with self._opened() as database:
            waiting = [
                _stored(event, published=False)
                for name in COLLECTIONS[self._service]
                for document in database[name].find(_WAITS, {"outbox": 1})
                for event in document["outbox"]
            ]
            fields = {"topic": 1, "type": 1, "stored_ms": 1}
            return waiting + [_stored(event, published=True) for event in database["outbox_published"].find({}, fields)]

    def documents(self, collections: Iterable[str]) -> dict[str, list[Document]]:
        with self._opened() as database:
            return {
                name: [Document(each["_id"], each["v"], each["body"]) for each in database[name].find({}, _SEEN)]
                for name in collections
            }

    @contextmanager
    def _opened(self) -> Iterator[Database[dict[str, Any]]]:
        try:
            client = pymongo.MongoClient[dict[str, Any]](
                self._url,
                appname="stagedoor-audit",
                readConcernLevel="majority",
                readPreference="primary",
            )
            with client:
                # Its limit covers finding the server, and one that is not there should not be waited for as long.
                with pymongo.timeout(ANSWER_TIMEOUT_S):
                    if not client[self._database]["schema_version"].find_one({}):
                        raise CannotRead(f"there is no database {self._database}")
                with pymongo.timeout(READ_TIMEOUT_S):
                    yield client[self._database]
        except PyMongoError as error:
            raise CannotRead(f"database {self._database}: {_reason(error)}") from error


_SEEN = {"v": 1, "body": 1}


def _stored(event: dict[str, Any], *, published: bool) -> Stored:
    return Stored(event["_id"], event["topic"], event["type"], event["stored_ms"], published)


def _reason(error: PyMongoError) -> str:
    """The driver's sentence without the state of everything that it appends."""
    return re.split(r" \(configured |, Timeout: |, full error: ", str(error))[0]
