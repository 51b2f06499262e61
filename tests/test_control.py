import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError, StoreError, Unavailable
from gateway.io import control


async def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer as a daemon would."""
    match request["do"]:
        case "echo":
            return {"said": request["say"]}
        case "refuse":
            raise ConfigError("no such device; allowed: nonin-1")
        case "fail":
            raise StoreError("the disk is full")
        case _:
            raise asyncio.CancelledError


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[None]:
    """Serve commands at a path, from when they can be given."""
    listening = asyncio.Event()
    task = asyncio.create_task(control.serve(path, answer, listening.set))
    await asyncio.wait_for(listening.wait(), 5)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def ask(path: Path, request: object) -> dict[str, Any]:
    """Ask from another thread, as another process would."""
    return await asyncio.to_thread(control.call, path, request)  # type: ignore[arg-type]  # some requests are none


async def test_command_is_answered(tmp_path: Path) -> None:
    """A request reaches the daemon and its answer comes back; many may ask at a time."""
    async with served(tmp_path / "control"):
        asked = [ask(tmp_path / "control", {"do": "echo", "say": number}) for number in range(20)]
        assert await asyncio.gather(*asked) == [{"said": number} for number in range(20)]


async def test_refusal_is_the_askers(tmp_path: Path) -> None:
    """A refusal comes back as what it was: a mistake of the asker's, or something that is not there now."""
    async with served(tmp_path / "control"):
        with pytest.raises(ConfigError, match="no such device; allowed: nonin-1"):
            await ask(tmp_path / "control", {"do": "refuse"})
        with pytest.raises(Unavailable, match="the disk is full"):
            await ask(tmp_path / "control", {"do": "fail"})


@pytest.mark.parametrize("request_", [{}, {"say": 1}, [], "text", 5, None])
async def test_request_that_is_none_is_refused(tmp_path: Path, request_: object) -> None:
    """What is no request is answered with that, and the next one is served."""
    async with served(tmp_path / "control"):
        with pytest.raises(ConfigError, match="not a request"):
            await ask(tmp_path / "control", request_)
        assert await ask(tmp_path / "control", {"do": "echo", "say": 1}) == {"said": 1}


@pytest.mark.parametrize(
    "said", [b"", b"\n", b"{\n", b"\xff\xfe\n", b'{"do": "echo"', b"x" * (control.LIMIT_BYTES + 9)]
)
async def test_noise_on_the_socket_harms_nobody(tmp_path: Path, said: bytes) -> None:
    """Whatever a process writes into the socket, it costs its own connection and nothing else."""
    async with served(tmp_path / "control"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control"))
        with suppress(ConnectionError):
            writer.write(said)
            writer.write_eof()
            heard = await asyncio.wait_for(reader.read(), 5)
            assert not heard or "error" in json.loads(heard)
        writer.close()
        assert await ask(tmp_path / "control", {"do": "echo", "say": 1}) == {"said": 1}


async def test_socket_is_its_owners_and_goes_with_the_daemon(tmp_path: Path) -> None:
    """The socket is for owner and group, replaces one that a crash left, and is removed at the end."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    async with served(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert await ask(path, {"do": "echo", "say": 1}) == {"said": 1}
    assert not path.exists()


async def test_path_may_be_long(tmp_path: Path) -> None:
    """A state folder deeper than a socket's 107 bytes works as any other."""
    folder = tmp_path / ("deep" * 30) / ("deeper" * 10)
    folder.mkdir(parents=True)
    async with served(folder / "control"):
        assert await ask(folder / "control", {"do": "echo", "say": 1}) == {"said": 1}


@pytest.mark.parametrize("leave", ["nothing", "a socket", "no folder"])
async def test_daemon_that_is_not_there_is_unavailable(tmp_path: Path, leave: str) -> None:
    """Where no daemon answers, the asker is told so, whether or not a crash left its socket."""
    path = tmp_path / "none" / "control" if leave == "no folder" else tmp_path / "control"
    if leave == "a socket":
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(str(path))
    with pytest.raises(Unavailable, match="no daemon answers here"):
        await ask(path, {"do": "status"})


@pytest.mark.parametrize("answered", [b"", b"{", b"garbage\n", b"[]\n", b"5\n"])
async def test_daemon_that_ends_in_mid_answer_is_unavailable(tmp_path: Path, answered: bytes) -> None:
    """Half an answer is none: a daemon that was killed while it answered is not there."""
    path = tmp_path / "control"

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answered)
        writer.close()

    async with await asyncio.start_unix_server(converse, str(path)):
        with pytest.raises(Unavailable, match="ended before it answered"):
            await ask(path, {"do": "status"})


async def test_daemon_that_hangs_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that does not answer in time is said to be just that."""
    monkeypatch.setattr(control, "ANSWER_LIMIT_S", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "control"))
        silent.listen()
        with pytest.raises(Unavailable, match=r"did not answer in 0\.1 s"):
            await ask(tmp_path / "control", {"do": "status"})
