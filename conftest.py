"""For every test of the project: a call that would block the event loop fails the test that makes it.

Exceptions, by name: SQLite point reads through apsw (`libs.common.storage.sqlite`: 8 µs in the loop are cheaper than a
trip to a thread; apsw is not among what is watched), the few files under /proc that a scrape of `/metrics` reads, and
the source lines that a logged traceback shows.
"""

from collections.abc import Iterator

import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx

MAY_READ_FILES = {
    "prometheus_client/process_collector.py": {"__init__", "collect"},
    "linecache.py": {"updatecache", "checkcache"},
}


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    with blockbuster_ctx() as watcher:
        for watched in watcher.functions.values():
            for file, functions in MAY_READ_FILES.items():
                watched.can_block_in(file, functions)
        yield watcher


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """Log lines as in production, without caching, so that a test can read them where it captures output."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        cache_logger_on_first_use=False,
    )
