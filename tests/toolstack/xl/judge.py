# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own xl, asked what it makes of a domain file: `xl create -n` over stub.c, which stands for a machine with
Xen on it.

What is judged is xl's own reading, libxlutil's and libxenlight's: those binaries are run as they were packaged. What
the stub answers does not change how a file is read.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pvhv.build.zig import find_zig

HERE = Path(__file__).parent
PROGRAM = Path("/usr/lib/xen-4.17/bin/xl")
MANUAL = Path("/usr/share/man/man5/xl.cfg.5.gz")
HOW_TO_GET_IT = "there is no xl 4.17 here: apt-get install --no-install-recommends xen-utils-4.17"
TARGET = ("-target", "x86_64-linux-gnu")
FLAGS = (
    "-shared", "-fPIC", "-nostdlib", "-O1", "-g0", "-fno-sanitize=undefined", "-fno-stack-protector", "-Wl,-z,undefs",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What xl made of a file: the domain's configuration, or nothing; and what it said."""

    status: int
    config: dict[str, Any] | None
    said: str

    @property
    def taken(self) -> bool:
        return self.config is not None


class Judge:
    """xl, over a stub compiled into `work`."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.asked = work / "asked.cfg"
        self.stub = work / "stub.so"
        caches = work / "zig"
        command = [*TARGET, *FLAGS, "-o", str(self.stub), str(HERE / "stub.c")]
        outcome = find_zig().cc(command, cwd=work, caches=caches, local=caches)
        assert outcome.status == 0, outcome.text

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """The program itself."""
        environment = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(self.stub), **options.pop("environment", {})}
        options.setdefault("close_fds", False)  # there are none to inherit, and closing them takes twice xl's time
        return subprocess.run(
            [str(PROGRAM), *arguments], cwd=self.work, env=environment, capture_output=True, timeout=30, **options
        )

    def ask(self, file: bytes, *arguments: str) -> Verdict:
        """What it makes of a file, its defaults filled in."""
        self.asked.write_bytes(file)
        done = self.run("create", "-q", "-n", self.asked.name, *arguments)
        assert done.returncode >= 0, f"xl died by signal {-done.returncode}: {file!r} {done.stderr!r}"
        text = done.stdout.decode("utf-8", "surrogateescape")
        config = json.loads(text) if done.returncode == 0 and text else None
        return Verdict(done.returncode, config, done.stderr.decode("utf-8", "replace"))

    def reads(self, *arguments: str) -> list[str]:
        """The nodes of xenstore that it reads."""
        reading, writing = os.pipe()
        with os.fdopen(reading) as stream:
            try:
                self.run(
                    *arguments, environment={"XL_READS": str(writing)}, close_fds=True, pass_fds=(writing,)
                )
            finally:
                os.close(writing)
            return stream.read().splitlines()

    def keys(self, kind: str) -> dict[str, set[str]]:
        """Each key it looks for in the file of a domain of that type, and as what: string, number, boolean, list."""
        path = self.work / "keys.cfg"
        path.write_text(f'name = "x"\nkernel = "k"\ntype = "{kind}"\n')
        reading, writing = os.pipe()
        with os.fdopen(reading) as stream:
            try:
                done = self.run(
                    "create", "-q", "-n", path.name,
                    environment={"XL_KEYS": str(writing)}, close_fds=True, pass_fds=(writing,),
                )  # fmt: skip
            finally:
                os.close(writing)
            asked = [line.split() for line in stream]
        assert done.returncode == 0, done.stderr
        found: dict[str, set[str]] = {}
        for config, key, how in asked:
            if config != asked[0][0]:  # the first is xl.conf
                found.setdefault(key, set()).add(how)
        return found
