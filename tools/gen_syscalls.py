# SPDX-License-Identifier: GPL-2.0-or-later
"""Print the tables of system call names for pvhv/observe, from the headers that own them.

    python tools/gen_syscalls.py            write pvhv/observe/syscall_tables.py
    python tools/gen_syscalls.py --check    exit 1 when that file is not what would be written

Linux's numbers and errors come from its own headers, which the zig compiler brings along; the teaching kernel's from
guest_kernel/include/api.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pvhv.build.zig import find_zig  # noqa: E402

TARGET = ROOT / "pvhv" / "observe" / "syscall_tables.py"
OURS = ROOT / "guest_kernel" / "include" / "api" / "syscalls.h"
WIDTH = 118
PROLOGUE = """\
# SPDX-License-Identifier: GPL-2.0-or-later
# Printed by tools/gen_syscalls.py. Do not edit.
\"\"\"Names of system calls by their numbers, and of the errors they return.

Read beside it: asm/unistd_64.h, asm/unistd_32.h and asm-generic/errno.h of Linux; guest_kernel/include/api/syscalls.h.
\"\"\"

"""


def linux(header: Path, prefix: str) -> list[tuple[int, str]]:
    """The `#define PREFIXname number` of a header; of two names for a number, the first."""
    found: dict[int, str] = {}
    for name, number in re.findall(rf"^#define\s+{prefix}(\w+)\s+(\d+)\b", header.read_text(), re.MULTILINE):
        found.setdefault(int(number), name)
    return sorted(found.items())


def ours() -> list[tuple[int, str]]:
    """The enum of the teaching kernel's header."""
    text = re.sub(r"/\*.*?\*/", "", OURS.read_text(), flags=re.DOTALL)
    inside = text[text.index("enum syscall_number") :].partition("}")[0]
    names = re.findall(r"SYS_(\w+),", inside)
    return list(enumerate(names))


def table(name: str, rows: Iterable[tuple[int, str]]) -> str:
    """A dict, as it stands in the module."""
    lines, line = [], "   "
    for number, word in rows:
        item = f' {number}: "{word}",'
        if len(line) + len(item) > WIDTH:
            lines.append(line)
            line = "   "
        line += item
    return "\n".join([f"{name}: dict[int, str] = {{", *lines, line, "}  # fmt: skip", ""])


def module() -> str:
    """The text of the module."""
    headers = find_zig().library / "lib" / "libc" / "include"
    machine, generic = headers / "x86-linux-any" / "asm", headers / "any-linux-any" / "asm-generic"
    errors = [*linux(generic / "errno-base.h", "E"), *linux(generic / "errno.h", "E")]
    tables = (
        ("LINUX_X86_64", linux(machine / "unistd_64.h", "__NR_")),
        ("LINUX_I386", linux(machine / "unistd_32.h", "__NR_")),
        ("TEACHING_KERNEL", ours()),
        ("ERRORS", [(number, f"E{name}") for number, name in errors]),
    )
    return PROLOGUE + "\n".join(table(name, rows) for name, rows in tables)


def main() -> None:
    """Write the module, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the file is what would be written")
    arguments = parser.parse_args()
    text = module()
    if not arguments.check:
        TARGET.write_text(text, "utf-8")
    elif not TARGET.exists() or TARGET.read_text("utf-8") != text:
        sys.exit(f"{TARGET.name}: out of date; run `python tools/gen_syscalls.py`")


if __name__ == "__main__":
    main()
