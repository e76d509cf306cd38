"""Stands in for any room: 200 to everything, each PUT noted in FAKE_RECORD. Run as `fake_service.py ROOM`.

FAKE_WALLET=refuse   ends with one sentence and exit code 1, as a wrong setting does
FAKE_WALLET=chatty   does so, and its libraries have a last word after it
FAKE_WALLET=early    does so at its first start only, as one does whose neighbour is not up yet
FAKE_WALLET=deaf     ignores SIGTERM
FAKE_WALLET=parent   starts a grandchild that would sleep on
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

ROOM = sys.argv[1]
BEHAVIOUR = os.environ.get(f"FAKE_{ROOM.upper()}", "")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        method, path, _ = line.decode().split(" ")
        length, closing = 0, False
        while (header := await reader.readline()).strip():
            name, _, value = header.decode().lower().partition(":")
            length = int(value) if name == "content-length" else length
            closing = closing or (name, value.strip()) == ("connection", "close")
        body = await reader.readexactly(length)
        if method == "PUT":
            with Path(os.environ["FAKE_RECORD"]).open("a") as record:  # noqa: ASYNC230 (a fake)
                record.write(json.dumps({"room": ROOM, "path": path, "body": json.loads(body)}) + "\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        if closing:
            break
    writer.close()


async def main() -> None:
    early = Path(os.environ["FAKE_RECORD"]).with_name("early")
    if BEHAVIOUR == "early" and not early.exists():
        early.touch()
        print("the wallet does not answer", file=sys.stderr)
        sys.exit(1)
    if BEHAVIOUR in ("refuse", "chatty"):
        print(f"{ROOM}: STORE_URL: there is no such store", file=sys.stderr)
        if BEHAVIOUR == "chatty":
            print("ERROR something was left open", file=sys.stderr)
        sys.exit(1)
    if BEHAVIOUR == "parent":
        await asyncio.create_subprocess_exec("sleep", "60")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if BEHAVIOUR == "deaf" else stop.set)
    server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["PORT"]))
    print(json.dumps({name: os.environ.get(name) for name in sorted(os.environ)}), flush=True)
    await stop.wait()
    server.close()


asyncio.run(main())
