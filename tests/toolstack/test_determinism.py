# SPDX-License-Identifier: GPL-2.0-or-later
"""On a virtual clock a run is the same in every process, whatever the host does meanwhile."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Two shells on one timeline, typed at, traced; what is printed is everything a trace can tell.
PROGRAM = """
from pvhv.observe import decode
from pvhv.observe.trace import Recorder
from pvhv.testing import Machine

with Machine() as machine:
    recorder, records, guests = Recorder(machine.hypervisor), [], []
    for name in ("one", "two"):
        guest = machine.create(
            "guest-pv", name=name, timeline="lab", memory=16, paused=True,
            stdin="xs ls\\nps\\nsleep 1\\nseq 1 200 | wc\\nforktest\\nexit\\n",
        )
        recorder.start(guest.domain, records.append)
        guests.append(guest)
    for guest in guests:
        guest.start()
    assert machine.run(*guests, timeout=60)
    for record in records:
        print(decode.plain(record))
    for guest in guests:
        result = machine.result(guest)
        assert result.exit_status == 0
        print(result.output, result.counters)
"""


def run(seed: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE)


def test_two_processes_one_of_them_under_load_give_one_trace() -> None:
    alone, _error = run("1").communicate(timeout=120)
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        loaded, _error = run("2").communicate(timeout=240)
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert alone.count(b"\n") > 1000
    assert alone == loaded
