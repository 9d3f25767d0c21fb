"""Both ends of a connection, as a script of the standard library alone: `traffic.py serve|bulk|trips PORT`.

The first byte that a client sends chooses what it gets: `b` a stream of a gibibyte, `t` each message back. The clients
end after two seconds at the latest and print MB per second, or the microseconds of a round trip.
"""

from __future__ import annotations

import socket
import statistics
import sys
import threading
import time

CHUNK = 256 << 10
BULK = 1 << 30
MESSAGE = 64
TRIPS = 5000
LONGEST_S = 2.0


def serve(port: int) -> None:
    """Answer on all addresses until ended."""
    with socket.create_server(("", port), backlog=16) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        try:
            if connection.recv(1) == b"b":
                chunk = bytes(CHUNK)
                for _ in range(BULK // CHUNK):
                    connection.sendall(chunk)
                return
            while message := connection.recv(MESSAGE):
                connection.sendall(message)
        except ConnectionError:
            return  # the client has had enough


def bulk(port: int) -> float:
    """MB per second of one stream."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        buffer = bytearray(CHUNK)
        connection.sendall(b"b")
        got, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < LONGEST_S and (size := connection.recv_into(buffer)):
            got += size
        return got / 1e6 / (time.perf_counter() - begin)


def trips(port: int) -> float:
    """Microseconds of the median round trip: other work of the machine lengthens some of them, seldom most."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"t")
        taken: list[float] = []
        end = time.perf_counter() + LONGEST_S
        while len(taken) < TRIPS and (begin := time.perf_counter()) < end:
            connection.sendall(bytes(MESSAGE))
            if len(connection.recv(MESSAGE, socket.MSG_WAITALL)) != MESSAGE:
                raise ConnectionError("the server is gone")
            taken.append(time.perf_counter() - begin)
        return 1e6 * statistics.median(taken)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    print({"bulk": bulk, "trips": trips}[sys.argv[1]](int(sys.argv[2])))
