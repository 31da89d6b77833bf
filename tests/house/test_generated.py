# SPDX-License-Identifier: GPL-2.0-or-later
"""Files printed from the specs are what would be printed now. (The chapter on comparing:
tests/compare/test_all.py; the journey: tests/docs, in a clean clone.)"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "generator",
    ["gen_header.py", "gen_hypercalls.py", "gen_syscalls.py", "gen_session.py", "gen_engine.py",
     "gen_domain_files.py", "gen_handshake.py",
     "differences.py"],
)
def test_it_is_not_stale(generator: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / generator), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_manual_names_the_handlers() -> None:
    """Each with a link to its file: of whole hypercalls, and of their commands."""
    manual = (ROOT / "hypercalls.md").read_text("utf-8")
    assert manual.count("\nHandler [") > 130
