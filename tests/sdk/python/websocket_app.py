"""An app that echoes over WebSockets, and tells at its end how each of them ended."""

import asyncio
import json
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

SETTINGS = json.loads(sys.argv[1])
ENDED = []


async def echo(connection):
    try:
        async for message in connection:
            if message == "fragments":
                await connection.send(part for part in ["fr", "agm", "ents"])
            else:
                await connection.send(message)
    except ConnectionClosed:
        # While it was sending.
        await connection.wait_closed()
    ENDED.append(connection.close_code)


async def main():
    async with serve(echo, "127.0.0.1", SETTINGS["port"], max_size=None, ping_interval=0.1):
        print("@ listening", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print("=", json.dumps(ENDED), flush=True)


asyncio.run(main())
