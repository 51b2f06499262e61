"""README is true: what it tells a person to type works as it stands."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from gateway.cli.demo_processes import free_port
from gateway.cli.main import COMMANDS, iomt
from tests.states import init_gateway, make_state

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LIMIT_S = 120


def test_the_commands_by_hand_work_as_they_stand(tmp_path: Path) -> None:
    """The block of README's second screen runs whole, from a ledger to a verified reading."""
    script, _ = re.findall(r"```sh\n(export PATH=.*?)```", README, re.DOTALL)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    script = script.replace("1883", str(free_port()))
    done = subprocess.run(
        ["bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified    reading" in done.stdout
    assert "4 peers" in done.stdout


def test_two_administrators_sign_a_roster_as_it_says(tmp_path: Path) -> None:
    """The block on members runs whole: two administrators, each with a folder of their own, admit four peers."""
    script = re.findall(r"```sh\n(export PATH=.*?)```", README, re.DOTALL)[1]
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    done = subprocess.run(
        ["bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of alice, bob" in done.stdout
    assert "3 of hospital, lab, patients, regulator" in done.stdout


def test_a_profile_of_ones_own_is_made_as_it_says(tmp_path: Path) -> None:
    """Copying a profile and changing its name is all that a new kind of device takes."""
    (script,) = re.findall(r"```console\n(\$ mkdir -p .*?)```", README, re.DOTALL)
    state = make_state(tmp_path / "gw")
    lines = [line.removeprefix("$ ").partition("    #")[0] for line in script.splitlines()]
    script = "\n".join(lines).replace("/var/lib/iomt/gateway", str(state))
    script = script.replace(
        "iomt device profiles", f"sed -i s/heart-rate-strap/my-strap/ {state}/profiles/my-strap.toml"
    )
    subprocess.run(["bash", "-eu", "-c", script], cwd=ROOT, check=True)
    listed = CliRunner().invoke(iomt, ["device", "profiles", "--state", str(state)], prog_name="iomt")
    assert re.search("^my-strap ", listed.output, re.MULTILINE)


def test_sensors_are_simulated_as_it_says(tmp_path: Path) -> None:
    """The command of README simulates and onboards ten sensors, until Ctrl-C."""
    (command,) = re.findall(r"\$ iomt (simulate .*)", README)
    init_gateway(tmp_path / "ward-3")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *command.split()], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if line.startswith("simulated until Ctrl-C"):
            break
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(LIMIT_S) == 0
    assert sum("heart-rate-strap" in line for line in told) == 5
    assert sum("usb-Nonin_nonin" in line for line in told) == 5


def test_its_certificates_are_what_strict_clients_take(tmp_path: Path) -> None:
    """The commands that make the authority and the certificates work, and they hold in OpenSSL's strict mode."""
    (script,) = re.findall(r"```bash\n(openssl req.*?)```", README, re.DOTALL)
    subprocess.run(["bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    for name in ("broker", "lab", "ward-3"):
        verify = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", f"{name}.crt"]
        done = subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout == f"{name}.crt: OK\n", done.stderr


def test_every_command_is_in_the_table() -> None:
    """Each command and subcommand has its word in README."""
    for name in COMMANDS:
        command = iomt.get_command(None, name)  # type: ignore[arg-type]  # the context is not used
        assert f"`iomt {name}" in README or f", `{name}`" in README or f"`{name}`" in README, name
        for subcommand in getattr(command, "commands", {}):
            assert re.search(rf"`(iomt {name} )?{subcommand}`", README), f"{name} {subcommand}"


def test_every_command_explains_itself() -> None:
    """Help is there for each command, in lines of at most 100 characters."""
    for name in COMMANDS:
        result = CliRunner().invoke(iomt, [name, "--help"], prog_name="iomt")
        assert result.exit_code == 0
        assert max(len(line) for line in result.output.splitlines()) <= 100


def test_as_many_faults_are_made_as_it_says() -> None:
    """The count of README is that of the distinct numbers of tests named test_fault_NN_..."""
    tests = (ROOT / "tests").glob("test_*.py")
    made = {number for path in tests for number in re.findall(r"def test_fault_(\d\d)_", path.read_text())}
    (counted,) = re.findall(r"\*\*(\d+) faults\*\*", README)
    assert int(counted) == len(made)
