# SPDX-License-Identifier: GPL-2.0-or-later
"""The developer's verbs: from a clean clone to a running guest, or to passed tests, in one command.

    python3 tools/dev.py run  [ARGUMENTS of pvhv create]    install, build, and boot examples/hello.cfg
    python3 tools/dev.py test [ARGUMENTS of pytest]         install, build, and run the tests
    python3 tools/dev.py lint                               ruff and mypy
    python3 tools/dev.py build                              only bring what is compiled up to date

Runs on a bare Python 3.11 with nothing installed.  Each verb makes `.venv` if there is none, installs what
the verb needs if pyproject.toml changed since, builds what changed, and does its work.  What is done
already costs milliseconds and no network: `.venv/pvhv-installed.json` remembers which extras were
installed for which pyproject.

PVHV_VENV names another place for the environment (`.ci/run` uses it).  Everything said here goes to
standard error.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
VENV = Path(os.environ.get("PVHV_VENV") or ROOT / ".venv")
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
REMEMBERED = VENV / "pvhv-installed.json"
INSTALLED_BY = ("pyproject.toml", "tools/hatch_build.py")

# What a verb needs beyond the package itself.
EXTRAS = {"run": {"build"}, "build": {"build"}, "test": {"build", "test"}, "lint": {"build", "test", "dev"}}


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 (whatever Python is there runs this)
        return fail(f"pvhv needs Python 3.11 or newer; this is {sys.version.split()[0]} ({sys.executable})")
    if not arguments or arguments[0] not in EXTRAS:
        print(__doc__.strip(), file=sys.stderr)
        return 0 if arguments and arguments[0] in ("-h", "--help", "help") else 2
    verb, rest = arguments[0], arguments[1:]
    os.chdir(ROOT)
    return make_environment() or install_and_build(EXTRAS[verb]) or VERBS[verb](rest)


def run(arguments: list[str]) -> int:
    return become([str(BIN / "pvhv"), "create", "-c", "examples/hello.cfg", *arguments])


def test(arguments: list[str]) -> int:
    return become([str(PYTHON), "-m", "pytest", *arguments])


def lint(arguments: list[str]) -> int:
    ruff = subprocess.call([str(PYTHON), "-m", "ruff", "check", *(arguments or ["."])])
    return subprocess.call([str(PYTHON), "-m", "mypy", *arguments]) or ruff


def only_build(arguments: list[str]) -> int:
    return 0


VERBS = {"run": run, "test": test, "lint": lint, "build": only_build}


def make_environment() -> int:
    """A working `.venv` with pip in it, kept as it is where there is one."""
    if works([PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]):
        return 0
    missing = [name for name in ("venv", "ensurepip") if not importable(name)]
    if missing:
        return fail(
            f"this Python came without {' and '.join(missing)}; on Debian and Ubuntu, get it with\n"
            "    apt-get install python3-venv"
        )
    return step(f"making {shown(VENV)}", [sys.executable, "-m", "venv", "--clear", str(VENV)])


def install_and_build(extras: set[str]) -> int:
    """The package, editable, with these extras, unless that was done before; the kernels, in any case."""
    parts = [str(ROOT), str(VENV), *((ROOT / name).read_text("utf-8") for name in INSTALLED_BY)]
    stamp = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    try:
        remembered = json.loads(REMEMBERED.read_text("utf-8"))
        have = set(remembered["extras"]) if remembered["stamp"] == stamp else set()
    except (OSError, ValueError, KeyError):
        have = set()
    if extras <= have:
        return build()
    import tomllib

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    # The build's requirements first: then the kernels are compiled here, where it can be watched, and pip's
    # own build finds them done, without fetching the compiler a second time into a place of its own. Libraries
    # are fetched and unpacked meanwhile.
    extras = extras | have
    return (
        ensure_pip(pip)
        or step("installing the compiler", [*pip, "install", *pyproject["build-system"]["requires"]])
        or build_beside([*pip, "install", *libraries(pyproject["project"], extras)])
        or step("installing pvhv", [*pip, "install", "--no-build-isolation", "-e", f".[{','.join(sorted(extras))}]"])
        or remember({"stamp": stamp, "extras": sorted(extras)})
    )


def libraries(project: dict[str, Any], extras: set[str]) -> list[str]:
    """What pvhv with these extras requires, itself left out."""
    wanted = [*project["dependencies"], *(each for name in extras for each in project["optional-dependencies"][name])]
    return sorted({each for each in wanted if not each.startswith("pvhv[")})


def build_beside(install: list[str]) -> int:
    """Build, while another processor installs."""
    installing = begin(install)
    try:
        return build() or watch("installing libraries", installing)
    finally:
        installing.process.terminate()


def ensure_pip(pip: list[str]) -> int:
    """An environment made by uv has none."""
    return 0 if works([*pip, "--version"]) else step("adding pip", [str(PYTHON), "-m", "ensurepip"])


def build() -> int:
    return subprocess.call([str(PYTHON), "-m", "pvhv.build"])


def remember(what: dict[str, object]) -> int:
    REMEMBERED.write_text(json.dumps(what) + "\n", "utf-8")
    return 0


class Begun(NamedTuple):
    """A command under way, and what it says, line by line (None: all of it)."""

    command: list[str]
    process: subprocess.Popen[str]
    lines: queue.Queue[str | None]


def begin(command: list[str]) -> Begun:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=drain, args=(process, lines), daemon=True).start()
    return Begun(command, process, lines)


def step(title: str, command: list[str]) -> int:
    """Run a command that takes a while."""
    return watch(title, begin(command))


def watch(title: str, begun: Begun) -> int:
    """A line for a command, alive while it lasts; its words only if it fails."""
    command, process, lines = begun
    live = sys.stderr.isatty()
    started = time.monotonic()
    said: list[str] = []
    doing, told = "", started
    show(f"{title} ...", live)
    try:
        while True:
            try:
                line = lines.get(timeout=0.2)
                if line is None:
                    break
                said.append(line)
                if not line.startswith(("WARNING", "[notice]", "Requirement already")):
                    doing = line.strip()
            except queue.Empty:
                pass
            now = time.monotonic()
            if now - told >= (0.2 if live else 5.0):
                told = now
                text = f"{title} ... {now - started:.0f} s  {doing}"
                show(text, live)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        print("\ninterrupted; run the same command to go on", file=sys.stderr)
        return 130
    status = process.wait()
    done = f"{title}: done in {time.monotonic() - started:.1f} s" if not status else f"{title}: failed"
    show(done, live, last=True)
    if status:
        sys.stderr.write("".join(said))
        return fail(f"{title} failed: {' '.join(command)}")
    return 0


def drain(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def show(text: str, live: bool, last: bool = False) -> None:
    """A line on a log; on a terminal, the same line again and again until it is the last."""
    if live:
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
        except OSError:
            width = 79
        text = "\r" + text[:width].ljust(width)
    print(text, end="" if live and not last else "\n", file=sys.stderr, flush=True)


def works(command: list[str | Path]) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def importable(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def become(command: list[str]) -> int:
    """Hand the terminal over; where processes can be replaced, nothing of us stays in between."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":
        return subprocess.call(command)
    os.execv(command[0], command)


def fail(message: str) -> int:
    print(f"dev.py: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
