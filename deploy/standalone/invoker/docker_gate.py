"""Lets containers reach the API, which listens on this machine's loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

CHUNK = 65_536
CONNECT_TIMEOUT_S = 5.0


class Gate:
    """Passes each connection made to ``listening``, which it closes at its end, on to ``target``."""

    def __init__(self, listening: socket.socket, target: tuple[str, int]) -> None:
        self._listening = listening
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        serve = self._loop.run_until_complete
        self._thread = threading.Thread(target=serve, args=(self._serve(),), name="docker-gate", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cut all connections."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as connections:

            def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                connections.create_task(self._connect(reader, writer))

            server = await asyncio.start_server(welcome, sock=self._listening)
            await self._over.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError), contextlib.closing(writer):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                back, forth = await asyncio.open_connection(*self._target)
            with contextlib.closing(forth):
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(_copy(reader, forth))
                    ways.create_task(_copy(back, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until either side has ended; what is left of the connection is for the other direction."""
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
