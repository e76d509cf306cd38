"""Waiting for something to become true, instead of sleeping and hoping."""

import asyncio
from collections.abc import Awaitable, Callable

POLL_S = 0.005


async def eventually(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 5.0, message: str = "") -> None:
    """Return as soon as `condition` holds; fail after `within_s`, with `message` or the condition's place."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while True:
        holds = condition()
        if isinstance(holds, Awaitable):
            holds = await holds
        if holds:
            return
        if loop.time() >= deadline_s:
            raise AssertionError(f"not within {within_s} s: {message or _place(condition)}")
        await asyncio.sleep(POLL_S)


def _place(condition: Callable[..., object]) -> str:
    code = getattr(condition, "__code__", None)
    return repr(condition) if code is None else f"the condition at {code.co_filename}:{code.co_firstlineno}"
