"""How a person's command reaches a running daemon: one JSON object a line over a socket in its state folder.

    -> {"do": "status"}
    <- {"ok": {...}}  or  {"error": "what is wrong", "exit": 2}

The socket's mode is 0660: who may read the state folder may ask.
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError, IomtError, Unavailable

SOCKET = "control"
LIMIT_BYTES = 1 << 20
ANSWER_LIMIT_S = 10.0

Request = Mapping[str, Any]
Handler = Callable[[Request], Awaitable[Mapping[str, Any]]]


async def serve(path: Path, handle: Handler, on_listening: Callable[[], None]) -> None:
    """Answer requests for ever, from when `on_listening` is called; the socket is removed when this is cancelled."""
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - a socket's name: nothing here waits for a disk
    listening = socket.socket(socket.AF_UNIX)
    with _short_name(path) as name:
        listening.bind(name)
    path.chmod(0o660)  # noqa: ASYNC240 - as above
    server = await asyncio.start_unix_server(
        lambda reader, writer: _converse(reader, writer, handle), sock=listening, limit=LIMIT_BYTES
    )
    on_listening()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - as above


def call(path: Path, request: Request) -> dict[str, Any]:
    """Ask a running daemon and wait for its answer.

    Raises: Unavailable if none runs there or it does not answer, ConfigError or another of ours if it refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_LIMIT_S)
        try:
            with _short_name(path) as name:
                connection.connect(name)
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = connection.makefile("rb").readline(LIMIT_BYTES)
        except TimeoutError as error:
            raise Unavailable(f"{path}: the daemon did not answer in {ANSWER_LIMIT_S:g} s") from error
        except OSError as error:
            raise Unavailable(f"{path}: no daemon answers here: {error.strerror}") from error
    answer = _object(line)
    if "ok" not in answer:
        raise _refusal(answer)
    return dict(answer["ok"])


def _object(line: bytes) -> dict[str, Any]:
    """Read a line of JSON; one that was cut off, or is no object, is empty."""
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


@contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Give a name for a socket of any path: the kernel takes 107 bytes, a descriptor of the folder is short."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _refusal(answer: Request) -> IomtError:
    text = str(answer.get("error", "the daemon ended before it answered"))
    kind = ConfigError if answer.get("exit") == ConfigError.exit_code else Unavailable
    return kind(text)


def _request(line: bytes) -> Request:
    request = json.loads(line)
    if not isinstance(request, dict):
        raise TypeError(f"{type(request).__name__}, where an object is wanted")
    return request


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
    try:
        line = await reader.readline()
        try:
            answer: Mapping[str, Any] = {"ok": await handle(_request(line))}
        except IomtError as error:
            answer = {"error": str(error), "exit": error.exit_code}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": f"not a request: {error!r}", "exit": 2}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
    except (OSError, ValueError):
        pass  # the asker went away, or sent a line without end
    finally:
        writer.close()
