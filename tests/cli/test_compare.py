# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv compare` as people run it: exact answers, and one clear message for what is wrong."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pvhv.compare.costs import DIRECTORY
from tests.cli.conftest import Pvhv

QUICK = ("-t", "bare,hw-nested", "-b", "in", "-b", "callret")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-t", "hw-shadw"), "there is no technique 'hw-shadw'\n      did you mean 'hw-shadow'?"),
        (("-b", "pgfaults"), "there is no benchmark 'pgfaults'\n      did you mean 'pgfault'?"),
        (("--costs", "p4"), "there is no cost table 'p4'\n      did you mean 'p4-2006'?"),
        (("--costs", "bad.toml"), "bad.toml: 'tlb_flush': cycles is -1, which is negative"),
        (("--costs", "./none.toml"), "none.toml: No such file or directory"),
        (("--paper", "xen"), "there is no paper 'xen'\n      did you mean 'xen-2003'?"),
        (("--explain", "forc"), "there is no benchmark 'forc'\n      did you mean 'fork'?"),
        (("--explain", "in", "-t", "pv"), "--explain compares two techniques"),
        (("--plot", "none/a.svg"), "cannot write 'none/a.svg': No such file or directory"),
        (("--plot", "a.pdf"), "cannot plot to 'a.pdf'"),
        (("--json", "--csv"), "--json and --csv cannot be given together"),
        (("--csv", "--explain", "in"), "--csv has no room for --explain and --paper"),
        (("--all", "-b", "in"), "--bench and --all contradict each other"),
        (("--paper", "xen-2003", "-b", "in"), "--paper chooses techniques and benchmarks"),
        (("--linux",), "there is no Linux to compare with\n      `python3 tools/fetch_linux.py` fetches one"),
        (("--linux", "--kernel", "none", "--ramdisk", "none"), "there is no file none"),
        (("--linux", "--kernel", "bad.toml", "--ramdisk", "bad.toml"), "bad.toml is not an ELF file"),
        (("--linux", "--explain", "fork"), "--linux adds counts to a comparison"),
        (("--kernel", "vmlinuz"), "--kernel and --ramdisk need --linux"),
        (("--io", "net"), "there is nothing to compare for --io 'net'\n      there is --io disk"),
        (("--io", "disk", "--all"), "--io disk counts, and has no --all\n      leave out --all"),
        (("--io", "disk", "-b", "fork"), "there is no benchmark of a disk 'fork'"),
        (("--io", "disk", "-t", "pv/ide"), "there is no technique 'pv/ide'"),
        (("--io", "disk", "--explain", "read-4k", "-t", "pv"), "--explain compares two columns"),
        (("--io", "disk", "--explain", "read-4k", "-b", "read-4k"), "--explain shows one operation only"),
    ],
)
def test_bad_input_is_one_message(pvhv: Pvhv, arguments: tuple[str, ...], message: str) -> None:
    template = (DIRECTORY / "template.toml").read_text()
    (pvhv.directory / "bad.toml").write_text(re.sub(r"(\[tlb_flush\].*\ncycles = )1", r"\1-1", template))
    done = pvhv.run("compare", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"pvhv: {message}")


def test_a_plot_without_the_plotting_library(pvhv: Pvhv) -> None:
    package = pvhv.directory / "shadowing" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not here')\n")
    pvhv.environment["PYTHONPATH"] = f"{package.parent}:{pvhv.environment['PYTHONPATH']}"
    done = pvhv.run("compare", *QUICK, "--plot", "a.svg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pvhv: plots need matplotlib, which is not installed\n      pip install 'pvhv[plot]'\n"
    assert not (pvhv.directory / "a.svg").exists()


def test_two_runs_give_the_same_bytes_even_under_load(pvhv: Pvhv) -> None:
    alone = pvhv.run("compare", *QUICK, "--json", "-v")
    assert alone.returncode == 0, alone.stderr
    until = time.monotonic() + 60
    busy = [sys.executable, "-c", f"import time\nwhile time.monotonic() < {until}: pass"]
    load = [subprocess.Popen(busy) for _ in range(4)]
    try:
        loaded = pvhv.run("compare", *QUICK, "--json", "-v")
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert loaded.stdout == alone.stdout
    document = json.loads(alone.stdout)
    exits = {
        (record["technique"], record["bench"]): record["per_operation"]
        for record in document["records"]
        if record["metric"] == "exits"
    }
    assert exits == {("hw-nested", "in"): "1"}  # reading a port leaves guest mode once; calling a subroutine does not


def test_the_table_and_the_picture(pvhv: Pvhv) -> None:
    pytest.importorskip("matplotlib", reason="pip install 'pvhv[plot]'")
    done = pvhv.run("compare", *QUICK, "--costs", "nehalem,p4-2006", "--plot", "a.svg", "--measured")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Exits per operation"
    assert lines[1].split() == ["Benchmark", "bare", "hw-nested"]
    assert lines[2].split() == ["in", "0", "1"]
    assert lines[3].split() == ["callret", "0", "0"]
    assert "Estimated cycles per operation under nehalem" in done.stdout
    assert "hw-nested: no Pentium 4 has nested paging" in done.stdout
    assert "Measured wall time" in done.stdout
    assert "compare [" not in done.stdout
    svg = Path(pvhv.directory, "a.svg").read_text()
    assert "Estimated cycles per operation under nehalem" in svg


def test_one_operation_side_by_side(pvhv: Pvhv) -> None:
    done = pvhv.run("compare", "--explain", "in", "-t", "bare", "-t", "hw-nested")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "One operation of in"
    assert lines[1].split("  ")[0] == "bare: no exits"
    assert lines[1].rstrip().endswith("hw-nested: 1 exit")
    assert lines[2].split()[0] == "IOIO"
    assert lines[3] == ""


DISK = ("--io", "disk", "-t", "hw-nested/virtio,pv", "-b", "read-4k,write-4k")


def test_one_disk_by_several_devices(pvhv: Pvhv) -> None:
    done = pvhv.run("compare", *DISK)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Exits per operation of a disk"
    assert lines[1].split() == ["Device", "Technique", "read-4k", "write-4k"]
    assert lines[2].split() == ["virtio", "hw-nested", "5", "5"]
    assert lines[3].split() == ["split", "pv", "5", "5"]
    assert "What one operation is made of" in done.stdout


def test_one_disk_in_json_and_one_operation_of_it(pvhv: Pvhv) -> None:
    done = pvhv.run("compare", *DISK, "--json")
    records = json.loads(done.stdout)["records"]
    mapped = {record["bench"]: record["per_operation"] for record in records if "grants" in record["metric"]}
    assert mapped == {"read-4k": "1", "write-4k": "1"}
    done = pvhv.run("compare", "--io", "disk", "--explain", "read-4k", "-t", "hw-nested/virtio", "-t", "pv")
    lines = done.stdout.splitlines()
    assert lines[0] == "One operation of read-4k" and "hw-nested/virtio: 5 exits" in lines[1]
    assert re.search(r"^IOIO  out 0x[0-9a-f]+ +syscall$", done.stdout, re.MULTILINE)
