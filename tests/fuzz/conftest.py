"""Prints what fuzzed inputs cost: the time of those whose memory was not traced, the memory of those where it was."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "fuzz"
    ]
    if not rows:
        return
    terminalreporter.section("fuzz: cost of an input")
    heads = ("inputs", "accepted", "median µs", "p99 µs", "slowest ms", "peak KiB")
    terminalreporter.line(f"{'target':30}" + "".join(f"{head:>11}" for head in heads))
    for row in rows:
        name, *figures = row.values()
        terminalreporter.line(f"{name:30}" + "".join(f"{figure:11,.0f}" for figure in figures))
