from datetime import UTC, datetime
from decimal import Decimal

from firmware_stubs.masimo import Display, MasimoRad8, encode_ascii1
from firmware_stubs.physiology import Patient

MOMENT = datetime(2016, 2, 22, 22, 47, 45, tzinfo=UTC)


def test_a_line_agrees_with_a_captured_one() -> None:
    """A Rad-8's, to the byte."""
    display = Display(spo2_percent=98, rate_per_min=97, perfusion_percent=Decimal("3.60"))

    assert encode_ascii1(MOMENT, display) == (
        b"02/22/16 22:47:45 SN=0000056661 SPO2=098% BPM=097 PI=03.60% SPCO=--.-% SPMET=--.-% DESAT=-- PIDELTA=+-- "
        b"ALARM=0000 EXC=000800\r\n"
    )


def test_the_values_are_the_wearers() -> None:
    """A line a second, with the device's own time."""
    sensor, wearer = MasimoRad8(Patient("exercise")), Patient("exercise")
    for second in range(120):
        wearer.advance(second * 1000)

        line = sensor.next_frame().decode()

        assert line.startswith(f"03/01/26 08:0{second // 60}:{second % 60:02} ")
        assert f" SPO2={wearer.spo2_percent:03}% BPM={wearer.rate_per_min(8):03} " in line
        assert f" PI={wearer.body.perfusion_percent:05.2f}% " in line


def test_without_a_finger_there_are_dashes() -> None:
    """And the exception of a sensor that is off the patient; commands are not heard."""
    sensor = MasimoRad8(Patient("rest"))
    sensor.has_finger = False

    line = sensor.next_frame()

    assert b" SPO2=---% BPM=--- PI=--.--% " in line
    assert line.endswith(b" EXC=000020\r\n")
    assert sensor.received(b"x") == b""
