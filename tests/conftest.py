# SPDX-License-Identifier: GPL-2.0-or-later
"""What every test shares: products that are up to date, and `--no-skips`.

The tests run what pvhv/_built/ holds, so it is brought up to date before the first of them, as
tools/dev.py does; which costs nothing when it is.  What does not build is said in a line, and its own
tests fail.

A test may skip on a machine that lacks something it compares with, and says how to get it.  Where
everything is meant to be there (.ci/run), a skip is a hole: under `--no-skips` the run is not green.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pvhv.build import BuildError, build_tree
from pvhv.build.progress import Progress

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail the run if any test is skipped")


def pytest_sessionstart(session: pytest.Session) -> None:
    try:
        build_tree(ROOT, ROOT / "pvhv" / "_built", progress=Progress("", io.StringIO()))
    except BuildError as error:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter:
            reporter.write_line(f"guest kernels are not up to date: {error}", yellow=True)
            reporter.write_line("(python3 tools/dev.py build shows why)", yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--no-skips"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"\n--no-skips: {skipped} skipped, and nothing may be skipped here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
