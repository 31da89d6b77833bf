# SPDX-License-Identifier: GPL-2.0-or-later
"""The same program gives the same trace: in another process, with other hashes, on a busy host.

Two domains on one virtual timeline are joined by event channels and grants; beside them a third, on a
timeline of its own, types at its shell. Every record of every trace goes into one digest, and the counters
into another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

STORY = """
import hashlib, json, sys
from pvhv.observe import counters, decode
from pvhv.observe.trace import Recorder
from pvhv.testing import Machine

with Machine(256) as machine:
    lab = {"kernel": "bench-pair", "timeline": "lab", "paused": True}
    measures = machine.create(name="measures", cmdline="samples=3 scale=2 peer=2", **lab)
    partner = machine.create(name="partner", cmdline="partner=1 peer=1", **lab)
    shell = machine.create("guest-pv", name="shell", stdin=sys.argv[1], paused=True)
    typist = machine.create(
        "guest-pv", name="typist", timeline="lab", stdin="xs ls\\nsleep 1\\nseq 1 200 | wc\\nexit\\n", paused=True
    )
    guests = [measures, partner, shell, typist]
    digests = {guest.name: hashlib.sha256() for guest in guests}
    records = dict.fromkeys(digests, 0)
    recorder = Recorder(machine.hypervisor)
    for guest in guests:
        def take(record, name=guest.name):
            digests[name].update(json.dumps(decode.plain(record), sort_keys=True).encode())
            records[name] += 1
        recorder.start(guest.domain, take)
    for guest in guests:
        guest.start()
    machine.run(measures, shell, typist, timeout=120)
    json.dump({
        guest.name: {
            "trace": digests[guest.name].hexdigest(),
            "records": records[guest.name],
            "output": machine.result(guest).output,
            "counters": repr(machine.result(guest).counters),
        } for guest in guests
    }, sys.stdout)
"""


TYPED = "ps\nforktest\necho a | cat | wc\nexit\n"


def tell(seed: int, typed: str = TYPED) -> dict[str, dict[str, object]]:
    """The story, in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", STORY, typed],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, dict[str, object]] = json.loads(run.stdout)
    return found


@contextmanager
def a_busy_host() -> Iterator[None]:
    """Processes that want every core."""
    spinners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((os.cpu_count() or 1) + 1)
    ]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def test_the_same_story_everywhere() -> None:
    quiet = tell(seed=1)
    with a_busy_host():
        busy = tell(seed=2)
    assert quiet == busy
    for name, told in quiet.items():
        assert isinstance(told["records"], int) and told["records"] > 400, (name, told)
    assert "PASS" in str(quiet["measures"]["output"])


def test_timelines_do_not_touch_each_other() -> None:
    """Another word at the shell changes the shell's trace, and nothing on the other timeline."""
    one, other = tell(seed=1), tell(seed=1, typed="ps\nexit\n")
    assert one["shell"]["trace"] != other["shell"]["trace"]
    assert one["measures"] == other["measures"]
