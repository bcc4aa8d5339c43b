"""The listener of the embedded Kafka that clients connect to first.

librdkafka's mock answers an ApiVersions request of an unknown version (3 and later, the first
request of kafka-python) with bytes that no client can read. A real broker answers with an error and
the versions that it knows (KIP-511). This listener does so too. It passes everything else on to the
mock unchanged, and the mock's metadata leads clients from here to the mock itself.
"""

import asyncio
import contextlib
import struct
import threading

__all__ = ["KafkaFront"]

API_VERSIONS = 18
KNOWN_VERSION = 2
UNSUPPORTED_VERSION = 35
MAX_FIRST_REQUEST_BYTES = 1024 * 1024
CHUNK_BYTES = 256 * 1024


class KafkaFront:
    """Listeners in front of the brokers, in a thread of their own from `start` to `stop`."""

    def __init__(self, backends: list[str]) -> None:
        """Take the addresses of the brokers, each `host:port`."""
        self._backends = backends
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka-front")
        self._servers: list[asyncio.Server] = []
        self.bootstrap = ""
        """The addresses of the listeners, comma-separated, in the order of the brokers."""

    def start(self) -> None:
        """Open a listener for each broker on a free port of the loopback interface."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports)

    def stop(self) -> None:
        """Close the listeners and all connections through them."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        for backend in self._backends:
            self._servers.append(await self._listen(backend))

    async def _listen(self, backend: str) -> asyncio.Server:
        host, _, port = backend.rpartition(":")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await greet(reader, writer, host, int(port))
            writer.close()

        return await asyncio.start_server(serve, "127.0.0.1", 0)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def greet(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    """Answer requests of unknown versions; at the first known one connect client and mock."""
    while True:
        size = await reader.readexactly(4)
        length = struct.unpack(">i", size)[0]
        if not 8 <= length <= MAX_FIRST_REQUEST_BYTES:
            return
        request = await reader.readexactly(length)
        api, version, correlation = struct.unpack_from(">hhi", request)
        if api != API_VERSIONS or version <= KNOWN_VERSION:
            break
        writer.write(unsupported(correlation))
    there_reader, there_writer = await asyncio.open_connection(host, port)
    try:
        there_writer.write(size + request)
        await splice((reader, there_writer), (there_reader, writer))
    finally:
        there_writer.close()


def unsupported(correlation: int) -> bytes:
    """Return the answer to an ApiVersions request of an unknown version (version 0, KIP-511)."""
    body = struct.pack(
        ">ihihhh", correlation, UNSUPPORTED_VERSION, 1, API_VERSIONS, 0, KNOWN_VERSION
    )
    return struct.pack(">i", len(body)) + body


async def splice(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Copy bytes each way until either side closes."""
    copies = [asyncio.create_task(copy(*way)) for way in ways]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in copies:
            task.cancel()
        await asyncio.gather(*copies, return_exceptions=True)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the reader's end."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
