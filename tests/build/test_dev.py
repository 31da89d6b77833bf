# SPDX-License-Identifier: GPL-2.0-or-later
"""The developer's verbs, as far as they go without a network: what they say when something is missing."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("PVHV_VENV", str(tmp_path / "venv"))
    monkeypatch.delenv("PVHV_PYTHON", raising=False)
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("dev", ROOT / "tools" / "dev.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_where_venv_is_left_out_the_line_that_gets_it(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "importable", lambda name: name != "ensurepip")
    assert dev.main(["run"]) == 1
    said = capsys.readouterr()
    assert "apt-get install python3-venv" in said.err and said.out == ""
    assert not dev.VENV.exists()


def test_an_old_python_is_told_so(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert dev.main(["run"]) == 1
    assert "needs Python 3.11" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["frobnicate"], 2), (["--help"], 0)])
def test_an_unknown_verb_shows_the_verbs(
    dev: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int
) -> None:
    assert dev.main(arguments) == status
    assert "tools/dev.py test" in capsys.readouterr().err


def test_a_step_that_fails_shows_its_words_and_the_command(
    dev: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dev.step("trying", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]) == 1
    said = capsys.readouterr().err
    assert "trying ..." in said and "the reason" in said and "trying failed:" in said


def test_on_a_terminal_a_step_is_one_line_that_lives(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    program = "import time; print('fetching things', flush=True); time.sleep(0.7)"
    assert dev.step("trying", [sys.executable, "-c", program]) == 0
    shown = [text.rstrip() for text in terminal.getvalue().split("\r")]
    assert shown[1] == "trying ..."
    assert any(text.startswith("trying ... ") and text.endswith("s  fetching things") for text in shown)
    assert shown[-1].startswith("trying: done in ") and terminal.getvalue().endswith("\n")


def test_pip_is_asked_once_for_the_same_pyproject(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(dev, "step", lambda title, command: steps.append(title) or 0)
    monkeypatch.setattr(dev, "works", lambda command: True)
    monkeypatch.setattr(dev, "build", lambda: steps.append("build") or 0)
    monkeypatch.setattr(dev, "build_beside", lambda install: dev.build())
    dev.VENV.mkdir()
    assert dev.install_and_build({"build", "test"}) == 0
    assert steps == ["installing the compiler", "build", "installing pvhv"]
    steps.clear()
    assert dev.install_and_build({"build"}) == 0
    assert steps == ["build"]
    assert dev.install_and_build({"build", "dev"}) == 0
    assert steps == ["build", "installing the compiler", "build", "installing pvhv"]
    assert json.loads(dev.REMEMBERED.read_text())["extras"] == ["build", "dev", "test"]
