# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own kernel, byte for byte as packaged, boots to a shell, works there, and ends as xl's users expect."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pvhv.testing import Machine, Result, boot
from tests.linux.conftest import Linux
from tools.linux import initramfs

pytestmark = pytest.mark.linux

ROOT = Path(__file__).parents[2]
CMDLINE = "console=hvc0"
# What a kernel says when it is not well. (An oops, a warning, a lockup, a stall, an MSR that was refused.)
QUIET = "stty -echo; PS1="  # neither what is typed nor a prompt between what is said
UNWELL = re.compile(r"WARNING:|BUG:|Oops|Call Trace|soft lockup|rcu.*stall|hung task|unchecked MSR|general protection")


def script(*lines: str) -> str:
    return "".join(line + "\n" for line in lines)


def start(linux: Linux, *lines: str, memory: int = 256, vcpus: int = 1, cmdline: str = CMDLINE) -> Result:
    return boot(
        linux.kernel, ramdisk=linux.ramdisk, cmdline=cmdline, stdin=script(*lines), clock="wall", timeout=90,
        memory=memory, vcpus=vcpus,
    )  # fmt: skip


def section(output: str, name: str) -> str:
    """What was printed between two marks, which `marked` writes so that a typed line does not look like them."""
    found = re.search(rf"<{name}>$(.*?)^</{name}>$", output, re.MULTILINE | re.DOTALL)
    assert found, f"no {name} in:\n{output}"
    return found[1].strip()


def marked(name: str, command: str) -> str:
    return f"echo '<'{name}'>'; {command}; echo '</'{name}'>'"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a pvhvd of its own."""
    environment = {**os.environ, "PVHV_RUNTIME_DIR": str(tmp_path / "run")}
    (tmp_path / "run").mkdir(mode=0o700)
    return environment


def pvhv(environment: dict[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pvhv.cli", *arguments], input=stdin, capture_output=True, text=True, errors="replace",
        env=environment, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip


def test_the_example_boots_to_a_shell(linux: Linux, home: dict[str, str]) -> None:
    commands = {
        "uname": "uname -a",
        "cpuinfo": "cat /proc/cpuinfo",
        "mounts": "mount",
        "memory": "free -k",
        "copied": "dd if=/dev/zero of=/tmp/zeros bs=64k count=64 2>&1; wc -c </tmp/zeros",
        "slept": "cut -d' ' -f1 /proc/uptime; sleep 1; cut -d' ' -f1 /proc/uptime",
        "piped": "seq 1000 | sort -n | tail -n 1",
        "hypervisor": "cat /sys/hypervisor/type /sys/hypervisor/version/major /sys/hypervisor/version/minor",
        "clock": "cat /sys/devices/system/clocksource/clocksource0/current_clocksource",
        "log": "dmesg",
    }
    typed = [marked(name, command) for name, command in commands.items()]
    try:
        done = pvhv(home, "create", "-c", "examples/debian.cfg", "--timeout", "90",
                    stdin=script(QUIET, *typed, "poweroff -f"))  # fmt: skip
    finally:
        pvhv(home, "daemon", "stop")
    assert done.returncode == 0, done.stdout + done.stderr
    output = done.stdout.replace("\r\n", "\n")
    said = {name: section(output, name) for name in commands}
    assert re.fullmatch(r"Linux debian \S+-amd64 .* x86_64 GNU/Linux", said["uname"])
    assert re.findall(r"^processor\s*: (\d+)", said["cpuinfo"], re.MULTILINE) == ["0"]
    assert " hypervisor" in said["cpuinfo"]
    assert "proc on /proc type proc" in said["mounts"]
    total = int(said["memory"].split("Mem:")[1].split()[0])
    assert 190 << 10 < total < 256 << 10
    assert "64+0 records out" in said["copied"] and said["copied"].endswith("4194304")
    before, after = map(float, said["slept"].split())
    assert 0.98 < after - before < 4.0  # of a machine with others on it
    assert said["piped"] == "1000" and said["hypervisor"].split() == ["xen", "4", "17"] and said["clock"] == "xen"
    assert "xen:events: Using FIFO-based ABI" in said["log"] and not UNWELL.findall(said["log"])


@pytest.mark.parametrize(("vcpus", "events"), [(1, "FIFO-based"), (4, "2-level")])
def test_the_newest_of_the_backports(backports: Linux, vcpus: int, events: str) -> None:
    done = start(
        backports, QUIET, marked("kernel", "uname -r; nproc"), marked("sums", "seq 3000 | md5sum"),
        marked("log", "dmesg"), "poweroff -f", vcpus=vcpus,
        cmdline=CMDLINE if events == "FIFO-based" else f"{CMDLINE} xen.fifo_events=0 grant_table.version=2",
    )  # fmt: skip
    assert done.exit_status == 0, done.output
    assert f"Using {events} ABI" in done.output
    assert f"Grant tables using version {1 if events == 'FIFO-based' else 2} layout" in done.output
    release, count = section(done.output, "kernel").split()
    assert re.fullmatch(r"\d+\.\d+\S*-amd64", release) and int(release.split(".")[0]) >= 6 and int(count) == vcpus
    numbers = "".join(f"{n + 1}\n" for n in range(3000)).encode()
    assert section(done.output, "sums").split()[0] == hashlib.md5(numbers).hexdigest()
    assert "Hypervisor detected: Xen PV" in done.output and not UNWELL.findall(section(done.output, "log"))


def test_no_root_file_system(without_root: Result) -> None:
    """A panic while it boots; tests/linux/test_names.py has the report's names."""
    assert without_root.exit_status == 20 and "Unable to mount root fs" in without_root.output
    assert "rip " in without_root.report and "SCHEDOP_shutdown" in without_root.report


def test_four_processors_a_balloon_and_a_panic(linux: Linux) -> None:
    work = "for n in 1 2 3 4 5 6; do (seq 3000 | md5sum) & done; wait"
    off_and_on = "cd /sys/devices/system/cpu/cpu2; echo 0 >online; nproc; echo 1 >online; nproc; cd"
    balloon = (
        "cd /sys/devices/system/xen_memory/xen_memory0; for size in 150000 200000; do echo $size >target_kb; n=0; "
        "while [ $(cat info/current_kb) != $size ] && [ $n -lt 100 ]; do usleep 100000; n=$((n+1)); done; "
        "cat info/current_kb; done; cd; dd if=/dev/zero of=/tmp/zeros bs=1M count=60 2>&1"
    )
    done = start(
        linux, QUIET, marked("count", "nproc"), marked("sums", work), marked("hotplug", off_and_on),
        marked("balloon", balloon), marked("log", "dmesg"), "echo c >/proc/sysrq-trigger", vcpus=4,
    )  # fmt: skip
    assert done.exit_status == 20, done.output
    assert "Kernel panic - not syncing: sysrq triggered crash" in done.output
    assert "rip " in done.report and "SCHEDOP_shutdown" in done.report
    assert section(done.output, "count") == "4"
    sums = re.findall(r"^([0-9a-f]{32})  -", section(done.output, "sums"), re.MULTILINE)
    assert len(sums) == 6 and len(set(sums)) == 1
    assert re.findall(r"^\d+$", section(done.output, "hotplug"), re.MULTILINE) == ["3", "4"]
    sizes, _, copied = section(done.output, "balloon").partition("60+0 records in")
    assert sizes.split() == ["150000", "200000"] and "60+0 records out" in copied
    assert not UNWELL.findall(section(done.output, "log"))


def program_of_32_bits() -> bytes:
    """A static ELF for the i386 that says so twice: by int 0x80, and by the way the kernel offers (AT_SYSINFO)."""
    base, text = 0x0804_8000, b"32 bits\n"
    code_at = 52 + 32
    message = code_at + 0x80

    def call(number: int, first: int, second: int, third: int) -> bytes:
        # mov $number, %eax; mov $first, %ebx; mov $second, %ecx; mov $third, %edx
        return struct.pack("<BIBIBIBI", 0xB8, number, 0xBB, first, 0xB9, second, 0xBA, third)

    write = call(4, 1, base + message, len(text))
    code = write + b"\xcd\x80"  # int $0x80
    code += bytes.fromhex("89e6 ad 8d748604 ad 85c0 75fb")  # past argc and argv, past the environment
    code += bytes.fromhex("ad 83f820 ad 75f9 89c7")  # the auxiliary vector: %edi = the value of type 32
    code += write + b"\xff\xd7"  # call *%edi, which is the vDSO's syscall
    code += call(1, 7, 0, 0) + b"\xcd\x80"  # exit(7)
    header = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 3, 1, base + code_at, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    size = message + len(text)
    segment = struct.pack("<8I", 1, 0, base, base, size, size, 7, 0x1000)
    return (header + segment + code).ljust(message, b"\0") + text


def test_programs_of_32_bits_and_a_shutdown_that_is_asked_for(linux: Linux, tmp_path: Path) -> None:
    ramdisk = tmp_path / "initramfs"
    ramdisk.write_bytes(initramfs.build(linux.busybox(), {"old": program_of_32_bits()}))
    with Machine(256) as machine:
        guest = machine.create(
            linux.kernel, ramdisk=ramdisk, cmdline=CMDLINE, memory=256, clock="wall",
            stdin=script(QUIET, "./old; echo status $?", "echo re''ady"),
        )  # fmt: skip
        assert machine.hypervisor.run_until(lambda: b"ready" in guest.console.output(), 90)
        machine.host.ask(guest, "poweroff")
        assert machine.run(guest, timeout=60)
        done = machine.result(guest)
    assert done.output.count("32 bits\n") == 2 and "status 7" in done.output
    assert done.exit_status == 0 and "Requesting system poweroff" in done.output
