"""WebSocket clients that see their messages echoed until their connection ends, and tell how it did."""

import asyncio
import json
import random
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SETTINGS = json.loads(sys.argv[1])
MESSAGES = ["hello", b"\x00\x01", "", "x" * 125, "y" * 126, b"z" * 70_000, random.Random(0).randbytes(300_000), "fragments"]


async def talk(number, begun):
    compression = "deflate" if number % 2 else None
    async with connect(SETTINGS["url"], max_size=None, compression=compression, ping_interval=0.1) as connection:
        for message in MESSAGES:
            await connection.send(message)
            answer = await connection.recv()
            assert answer == message, f"{len(answer)} instead of {len(message)}"
        begun.release()
        sent = answered = 0
        try:
            if SETTINGS["habit"] == "idle":
                await connection.recv()
            while True:
                sent += 1
                await connection.send(str(sent))
                assert await connection.recv() == str(sent)
                answered += 1
        except ConnectionClosed:
            pass
        return {"code": connection.close_code, "reason": connection.close_reason, "answered": answered}


async def main():
    begun = asyncio.Semaphore(0)
    clients = [asyncio.create_task(talk(number, begun)) for number in range(SETTINGS["clients"])]
    for _ in clients:
        await begun.acquire()
    print("@ echoed", flush=True)
    print("=", json.dumps(await asyncio.gather(*clients)), flush=True)


asyncio.run(main())
