"""Bytes of any kind against everything that reads bytes from outside, for as long as there is time.

    python -m tests.fuzz [--seconds 60] [--target NAME]... [--json]
    python -m tests.fuzz --replay NAME HEX

A target is a reader with what it promises of any bytes: nothing but the documented exception, and the invariants of
its family (`tests.fuzz.decoders`, `tests.fuzz.readers`, `tests.fuzz.signed`). Inputs are made by atheris, guided by
coverage, where it can be imported, else by Hypothesis. What was found is kept in .hypothesis/fuzz and tried again
first. Exit code: 0 nothing found, 1 something was, 2 a wrong argument.
"""
