"""Bytes in, samples out: one file per protocol family, and the table of all of them.

A decoder never raises: what is no sound frame comes out as a `Damaged` that says why. It never corrects, rounds or
fills in a value; what a frame says about its own quality becomes flags of the sample:

| flags | the frame says |
|---|---|
| no-value:CODE:SPECIAL | it has no value for this code: NaN, NRes, +INF, -INF, reserved, missing or unsuccessful |
| device-clock | its time stamp is the device's own, without a zone that is known for sure; taken as UTC |
| unknown-time, clock-fault | the stamp is incomplete, no date or of a clock that was not set; the clock failed |
| no-contact, sensor-off | the strap does not touch skin; the probe is not on a person |
| sensor-disconnected, sensor-displaced, sensor-fault, sensor-alarm, unknown-sensor, malfunction | as named |
| sensor-too-hot, sensor-too-cold, ambient-light, low-battery | as named |
| poor-signal, inadequate-signal, irregular-signal, erratic-signal, interference, artifact | as named |
| low-perfusion, marginal-perfusion, non-pulsatile, questionable-pulse, out-of-track | the pulse is hard to find |
| pulse-not-found, searching, spo2-dropping, irregular-pulse, pulse-rate-high, pulse-rate-low | as named |
| body-moved, cuff-loose, position-wrong | the cuff's measurement was disturbed |
| sample-too-small, strip-misplaced, strip-wrong, strip-pulled-early | the test strip's was |
| analysing, calibrating, early-estimate, intermediate | the measurement goes on; this is not its result |
| extended-update, multi-packet | the value is renewed more slowly than usual; another frame has the rest |
| fast:CODE:VALUE, slow:CODE:VALUE | an oximeter's values that respond faster and slower than those it measures |
| calibration-due, calibration-recommended, calibration-not-allowed, time-synchronisation-due | the sensor asks |
| counter-went-back | the number of an encrypted advertisement is below the one before: a reset, or a replay |
| session-stopped, device-alert | as named |
| stored, demo-data, test-data, control-solution, unavailable, questionable, invalid | what the value is |
| above-measurable, below-measurable | the value is a bound |
| above-patient-limit, below-patient-limit, above-hyper-limit, below-hypo-limit, falling-fast, rising-fast | as named |
| site-PLACE | where it was measured: finger, ear-lobe, armpit, chest, ...; said by the frame or once by the device |
| user-N | which of its users the device took the person for |
| before-meal, after-meal, fasting, casual-meal, bedtime; tested-by-WHOM | the circumstances of a glucose value |
| healthy, minor-illness, major-illness, menses, stress | likewise |
| whatever else a sensor that signs itself calls it | see gateway.decode.statement |

A decoder serves one connection. Some are a `Learner` and can be told what the device says of all its measurements:
gatt.heart_rate 2a38, gatt.temperature and gatt.intermediate_temperature 2a1d, gatt.cgm 2aa8 and 2aaa.
"""

from collections.abc import Callable

from gateway.decode.battery import read_battery
from gateway.decode.blood_pressure import read_blood_pressure, read_cuff_pressure
from gateway.decode.bthome import Bthome
from gateway.decode.cgm import CgmRecords
from gateway.decode.contec import build_cms50d, build_cms50e
from gateway.decode.frame import Decoder, Frames, Learner, PlacedFrames
from gateway.decode.glucose import read_glucose, read_glucose_context
from gateway.decode.heart_rate import BODY_SENSOR_LOCATION, LOCATIONS, read_heart_rate
from gateway.decode.masimo import build_masimo_ascii1
from gateway.decode.nonin import build_format_2, build_format_7, build_format_8
from gateway.decode.oximeter import read_plx_continuous, read_plx_spot_check
from gateway.decode.scale import read_body_composition, read_weight
from gateway.decode.statement import StatementFrames
from gateway.decode.thermometer import PLACES, TEMPERATURE_TYPE, read_intermediate_temperature, read_temperature

__all__ = ["DECODERS", "DECODER_VERSIONS", "Decoder", "Learner"]

DECODERS: dict[str, Callable[[], Decoder]] = {
    "gatt.heart_rate": lambda: PlacedFrames(read_heart_rate, BODY_SENSOR_LOCATION, LOCATIONS),
    "gatt.plx_continuous": lambda: Frames(read_plx_continuous),
    "gatt.plx_spot_check": lambda: Frames(read_plx_spot_check),
    "gatt.temperature": lambda: PlacedFrames(read_temperature, TEMPERATURE_TYPE, PLACES),
    "gatt.intermediate_temperature": lambda: PlacedFrames(read_intermediate_temperature, TEMPERATURE_TYPE, PLACES),
    "gatt.blood_pressure": lambda: Frames(read_blood_pressure),
    "gatt.cuff_pressure": lambda: Frames(read_cuff_pressure),
    "gatt.glucose": lambda: Frames(read_glucose),
    "gatt.glucose_context": lambda: Frames(read_glucose_context),
    "gatt.cgm": CgmRecords,
    "gatt.weight": lambda: Frames(read_weight),
    "gatt.body_composition": lambda: Frames(read_body_composition),
    "gatt.battery": lambda: Frames(read_battery),
    "serial.nonin_df2": build_format_2,
    "serial.nonin_df7": build_format_7,
    "serial.nonin_df8": build_format_8,
    "serial.cms50d": build_cms50d,
    "serial.cms50e": build_cms50e,
    "serial.masimo_ascii1": build_masimo_ascii1,
    "serial.iomt_frame": StatementFrames,
    "adv.bthome_v2": Bthome,
}

# What a reading carries; a decoder that would read any frame differently gets the next number.
DECODER_VERSIONS: dict[str, str] = {name: f"{name}/1" for name in DECODERS}
