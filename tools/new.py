# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the skeleton of something new: files that work as they are, and the lines elsewhere that make it known.

    python tools/new.py hypercall NAME      a spec, a handler and a test, under a number free for experiments
    python tools/new.py test-kernel NAME    guest_kernel/tests/NAME/NAME.c
    python tools/new.py device NAME         a backend's two halves, which meet a guest's front end by xenbus, and a test
    python tools/new.py technique NAME      a way to virtualize the native kernel, known by name, and a test

The templates are in tools/new/. docs/adding.md says how to go on.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pvhv.abi import hypercalls  # noqa: E402

TEMPLATES = Path(__file__).with_name("new")
BACKENDS = "pvhv/devices/backends.py"
HYPERCALLS, CONTROL = "pvhv/abi/hypercalls.py", "pvhv/abi/control.py"
CALLS, NAMES, REGISTRY = "pvhv/core/calls/__init__.py", "pvhv/hvm/names.py", "pvhv/hvm/techniques/registry.py"
WIDTH = 120
LONGEST = 24  # names


class Refused(Exception):
    """Nothing was written; the text says why."""


Edit = Callable[[str], str]


def hypercall(words: dict[str, str]) -> tuple[dict[str, str], dict[str, Edit], str]:
    """The files to write, by template; the files to change; and what to do next."""
    free = re.findall(r"^ARCH_(\d) = _unassigned", (ROOT / CONTROL).read_text("utf-8"), re.MULTILINE)
    if not free:
        raise Refused(f"every number that Xen leaves to the architecture is taken: {CONTROL}")
    name, upper, row = words["name"], words["NAME"], f"ARCH_{free[-1]}"
    spoken_for = {call.name for call in hypercalls.HYPERCALLS.values()}
    if name in spoken_for:
        raise Refused(f"there is a hypercall {name} already")
    words["number"] = f"arch_{free[-1]}"

    def enlisted(text: str) -> str:
        text = replaced(text, f"    {row},\n", "")
        text = replaced(text, row, upper)
        line = f"from pvhv.abi.{name} import {upper}\n"
        imports = list(re.finditer(r"^from pvhv\.abi\.(\w+) import .*\n", text, re.MULTILINE))
        later = [found.start() for found in imports if found[1] > name]
        at = later[0] if later else imports[-1].end()
        return text[:at] + line + text[at:]

    def freed(text: str) -> str:
        return replaced(text, f"{row} = _unassigned(xen.HYPERVISOR_{words['number']})\n", "")

    def imported(text: str) -> str:
        listed = re.search(r"FAMILIES = \(\n(.*?)\n\)", text, re.DOTALL)
        if listed is None:
            raise Refused(f"{CALLS} has no list of FAMILIES")
        families = sorted([*re.findall(r'"(\w+)"', listed[1]), name])
        return text[: listed.start(1)] + wrapped([f'"{each}",' for each in families]) + text[listed.end(1) :]

    made = {"abi": f"pvhv/abi/{name}.py", "calls": f"pvhv/core/calls/{name}.py", "test": f"tests/core/test_{name}.py"}
    then = "python3 tools/dev.py gen      # the manual and the guest's header"
    return made, {HYPERCALLS: enlisted, CONTROL: freed, CALLS: imported}, then


def test_kernel(words: dict[str, str]) -> tuple[dict[str, str], dict[str, Edit], str]:
    dashed = words["dashed"]
    words["name"] = dashed
    then = "python3 tools/dev.py build    # makes the kernel test-" + dashed
    return {"kernel": f"guest_kernel/tests/{dashed}/{dashed}.c"}, {}, then


def device(words: dict[str, str]) -> tuple[dict[str, str], dict[str, Edit], str]:
    name, backend = words["name"], f"{words['Name']}Backend"

    def enlisted(text: str) -> str:
        console = "from pvhv.devices.console.control import ConsoleBackend\n"
        text = replaced(text, console, console + f"from pvhv.devices.{name}.control import {backend}\n")
        return in_order(re.sub(r" in \((.*?),?\)\}", rf" in (\1, {backend})}}", text))

    made = {
        "init": f"pvhv/devices/{name}/__init__.py",
        "ring": f"pvhv/devices/{name}/ring.py",
        "control": f"pvhv/devices/{name}/control.py",
        "test": f"tests/devices/test_{name}.py",
    }
    return made, {BACKENDS: enlisted}, "docs/adding.md                # how a guest gets one"


def technique(words: dict[str, str]) -> tuple[dict[str, str], dict[str, Edit], str]:
    name, upper, dashed, capital = words["name"], words["NAME"], words["dashed"], words["Name"]
    words["name"] = dashed

    def named(text: str) -> str:
        text = replaced(text, "NAMES = (", f'{upper} = "{dashed}"\nNAMES = (')
        return re.sub(r"^NAMES = \((.*)\)$", rf"NAMES = (\1, {upper})", text, flags=re.MULTILINE)

    def registered(text: str) -> str:
        line = f"from pvhv.hvm.techniques.{name} import {capital}\n"
        bare = "from pvhv.hvm.techniques.bare import Bare\n"
        text = in_order(replaced(text, bare, bare + line))
        return re.sub(r"^(ALL: .* = \(.*)\)$", rf"\1, {capital})", text, flags=re.MULTILINE)

    made = {"technique": f"pvhv/hvm/techniques/{name}.py", "test": f"tests/hvm/test_{name}.py"}
    then = "python3 tools/dev.py gen      # the page on domain files, which names the techniques"
    return made, {NAMES: named, REGISTRY: registered}, then


KINDS = {"hypercall": hypercall, "test-kernel": test_kernel, "device": device, "technique": technique}


def replaced(text: str, old: str, new: str) -> str:
    """A text with `old` replaced by `new`. Raises Refused unless `old` is there exactly once."""
    if text.count(old) != 1:
        raise Refused(f"the files are not as this tool knows them: {old!r} stands there {text.count(old)} times")
    return text.replace(old, new)


def wrapped(words: list[str]) -> str:
    """Words as the lines of a Python list."""
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else '    '}{word}"
    return "\n".join(lines)


def in_order(text: str) -> str:
    """A text with each group of one-line imports sorted, since ours is put in by name."""
    run = re.compile(r"(?:^from \S+ import [^(\n]+\n){2,}", re.MULTILINE)
    return run.sub(lambda found: "".join(sorted(found[0].splitlines(True), key=lambda line: line.split()[1])), text)


def write(kind: str, given: str) -> list[str]:
    """Write a skeleton. Returns the lines to print. Raises Refused, and then nothing is written."""
    if kind not in KINDS:
        raise Refused(f"there is no skeleton of a {kind}; there are {', '.join(KINDS)}")
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", given) or len(given) > LONGEST:
        raise Refused(f"{given!r} is no name: up to {LONGEST} small letters and digits, with - between words")
    plain = given.replace("-", "_")
    if keyword.iskeyword(plain):
        raise Refused(f"{given!r} is a word that Python keeps for itself")
    words = {
        "name": plain, "NAME": plain.upper(), "Name": plain.title().replace("_", ""), "dashed": plain.replace("_", "-"),
    }  # fmt: skip
    made, changed, then = KINDS[kind](words)
    taken = [path for path in made.values() if (ROOT / path).exists()]
    if taken:
        raise Refused(f"{taken[0]} is there already")
    texts = {}
    for part, path in made.items():
        template = (TEMPLATES / f"{kind}.{part}.in").read_text("utf-8")
        texts[path] = in_order(Template(template).substitute(words))
    texts |= {path: edit((ROOT / path).read_text("utf-8")) for path, edit in changed.items()}
    for path, text in texts.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, "utf-8", newline="\n")
    tests = [path for path in made.values() if path.startswith("tests/")]
    return [
        *(f"wrote    {path}" for path in made.values()),
        *(f"changed  {path}" for path in changed),
        f"next:    {then}",
        *(f"         python3 tools/dev.py test {path}" for path in tests),
    ]


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in KINDS:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        print("\n".join(write(*sys.argv[1:])))
    except Refused as why:
        print(f"new: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
