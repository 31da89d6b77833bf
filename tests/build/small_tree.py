# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree of a handful of files with every feature of kernels.toml, for tests that build again and again."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from pvhv.build import build_tree
from pvhv.build.progress import Progress

SCRIPT = """
ENTRY({entry})
SECTIONS {{
    . = {base};
    .text : {{ *(.text .text.*) }}
    .rodata : {{ *(.rodata .rodata.*) }}
    .data : {{ *(.data .data.*) }}
    .bss : {{ *(.bss .bss.*) }}
}}
"""

FILES = {
    "pvhv/machine/pacer.c": """
        #ifdef _WIN32
        int DllMainCRTStartup(void *a, unsigned b, void *c) { (void)a; (void)b; (void)c; return 1; }
        __declspec(dllexport)
        #else
        __attribute__((visibility("default")))
        #endif
        int pacer_block(int x) { return x + 1; }
        """,
    "guest_kernel/kernels.toml": """
        [kernel.small]
        sources = ["kernel/*.c", "kernel/*.S"]
        include = ["include"]
        linker_script = "kernel/kernel.lds"
        initfs = ["user/bin/*.c"]

        [tests]
        sources = ["tests/lib/*.c"]
        include = ["include", "tests/lib"]
        linker_script = "tests/lib/test.lds"

        [bench]
        sources = ["tests/lib/*.c"]
        linker_script = "tests/lib/test.lds"
        """,
    "guest_kernel/include/number.h": "#define NUMBER 1\n",
    "guest_kernel/include/xen/abi.h": "#define SHUTDOWN_poweroff 0\n",
    "guest_kernel/kernel/main.c": '#include "number.h"\nint n = NUMBER;\nvoid begin(void) { for (;;); }\n',
    "guest_kernel/kernel/other.c": "int other(int x) { return x * 3; }\n",
    "guest_kernel/kernel/initfs.S": '.section .rodata\n.globl initfs\ninitfs: .incbin "initfs.cpio"\n',
    "guest_kernel/kernel/kernel.lds": SCRIPT.format(entry="begin", base="0xffffffff80100000"),
    "guest_kernel/user/bin/one.c": "int answer(void);\nint main(void) { return answer(); }\n",
    "guest_kernel/user/bin/two.c": "int answer(void);\nint main(void) { return answer() + 2; }\n",
    "guest_kernel/user/lib/start.c": (
        "int main(void);\nint answer(void) { return 42; }\nvoid start(void) { main(); for (;;); }\n"
    ),
    "guest_kernel/user/user.lds": SCRIPT.format(entry="start", base="0x400000"),
    "guest_kernel/user/etc/motd": "welcome\n",
    "guest_kernel/tests/lib/lib.c": "void test(void);\nvoid go(void) { test(); for (;;); }\n",
    "guest_kernel/tests/lib/test.lds": SCRIPT.format(entry="go", base="0xffffffff80100000"),
    "guest_kernel/tests/first/first.c": "void test(void) { }\n",
    "guest_kernel/tests/second/second.c": '#include "number.h"\nvoid test(void) { __asm__("nop"); }\n',
    "guest_kernel/bench/third/third.c": "void test(void) { }\n",
    "guest_kernel/tests/notes/README": "no sources, hence no kernel\n",
}


@dataclass
class Built:
    """What one build said."""

    text: str

    @property
    def summary(self) -> str:
        """The closing line without the time it took."""
        return self.text.splitlines()[-1].partition(" (")[0]


class SmallTree:
    """The files above under `root`, built into `root/out` with a cache of its own."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.out, self.cache = root, root / "out", cache
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def build(self) -> Built:
        stream = io.StringIO()
        try:
            build_tree(self.root, self.out, cache=self.cache, progress=Progress("built:", stream))
        finally:
            self.said = stream.getvalue()
        return Built(self.said)

    def product(self, name: str) -> bytes:
        return (self.out / name).read_bytes()
