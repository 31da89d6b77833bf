# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that make, change and look at domains."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Pvhv
from tests.toolstack.recipes import SPIN, Recipe, shutdown


@pytest.fixture(autouse=True)
def nothing_left(shared: Pvhv) -> object:
    yield
    for name in shared.list():
        shared.ok("destroy", name)


def test_list_and_its_columns(shared: Pvhv) -> None:
    assert shared.ok("list").split() == ["Name", "ID", "Mem", "VCPUs", "State", "Time(s)"]
    assert shared.ok("list", "--json") == "[]\n"
    shared.ok("create", shared.domain("spinner", SPIN, "vcpus = 2"))
    shared.ok("create", "-p", shared.domain("sleeper", SPIN))
    rows = [line.split() for line in shared.ok("list").splitlines()[1:]]
    assert [(row[0], row[2], row[3], row[4]) for row in rows] == [
        ("spinner", "8", "2", "r-----"),
        ("sleeper", "8", "1", "--p---"),
    ]
    row = json.loads(shared.ok("list", "--json", "sleeper"))[0]
    assert (row["name"], row["memory"], row["vcpus"], row["state"], row["time"]) == (
        "sleeper",
        8,
        1,
        "--p---",
        0,
    )
    assert json.loads(shared.ok("list", "-l"))[0]["config"]["c_info"]["name"] == "spinner"


def test_a_domain_with_a_disk(shared: Pvhv) -> None:
    """Its file is beside the domain file, its backend is in the store, and another may not write to it as well."""
    file = shared.domain("one", SPIN, "disk = ['one.img,raw,xvda,rw']")
    assert "there is no file" in shared.fails("create", file)
    (shared.directory / "one.img").write_bytes(bytes(1024))
    shared.ok("create", file)
    back = f"/local/domain/0/backend/vbd/{shared.ok('domid', 'one').strip()}/51712"
    assert shared.ok("xenstore-read", f"{back}/dev") == "xvda\n"
    (disk,) = json.loads(shared.ok("list", "-l", "one"))[0]["config"]["disks"]
    assert (disk["pdev_path"], disk["vdev"]) == (str((shared.directory / "one.img").absolute()), "xvda")
    assert "is a disk of domain one already" in shared.fails("create", file, "name=two")
    shared.ok("destroy", "one")
    shared.ok("create", file, "name=two", "disk=['one.img,,xvda,ro']")


def test_names_and_ids(shared: Pvhv) -> None:
    assert "domain one is there" in shared.ok("create", shared.domain("one", SPIN))
    number = shared.ok("domid", "one").strip()
    assert shared.ok("domname", number) == "one\n"
    shared.ok("rename", "one", "two")
    assert shared.ok("domname", number) == "two\n"
    assert "did you mean two?" in shared.fails("domid", "tow")
    assert "'' cannot be a domain's name: it is empty" in shared.fails("rename", "two", "", status=2)
    assert "there is a domain two already" in shared.fails("create", "one.cfg", "name=two")


def test_pause_unpause_destroy(shared: Pvhv) -> None:
    shared.ok("create", shared.domain("one", SPIN))
    shared.ok("pause", "one")
    assert "is paused already" in shared.fails("pause", "one")
    assert shared.list()["one"]["state"] == "--p---"
    shared.ok("unpause", "one")
    assert "is not paused" in shared.fails("unpause", "one")
    shared.ok("destroy", "one")
    assert "there is no domain one" in shared.fails("destroy", "one")
    assert shared.list() == {}


def test_shutdown_and_reboot(shared: Pvhv) -> None:
    (shared.directory / "guest.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    first = shared.ok("create", "guest.cfg").split()[-1]
    shared.until(lambda: "$" in shared.ok("console", "guest"))
    shared.ok("reboot", "guest")
    shared.until(lambda: shared.list().get("guest", {}).get("domid") not in (None, int(first)))
    shared.until(lambda: shared.ok("console", "guest").count("Welcome") == 2)  # one console for both lives
    shared.ok("shutdown", "-w", "guest")
    shared.until(lambda: not shared.list())


def test_a_guest_that_does_not_listen(shared: Pvhv) -> None:
    shared.ok("create", shared.domain("deaf", SPIN))
    assert "took no notice of being asked to poweroff" in shared.fails("shutdown", "deaf")
    assert "took no notice of the key yet" in shared.fails("sysrq", "deaf", "h")
    shared.ok("pause", "deaf")
    assert "is paused: it cannot be sent a sysrq" in shared.fails("sysrq", "deaf", "h")


def test_rename_restart(shared: Pvhv) -> None:
    shared.ok("create", shared.domain("phoenix", shutdown(1), 'on_reboot = "rename-restart"'))
    shared.until(lambda: len(shared.list()) == 5)
    assert set(shared.list()) == {"phoenix", "phoenix-1", "phoenix-2", "phoenix-3", "phoenix-4"}


def test_looking(shared: Pvhv) -> None:
    shared.ok("create", shared.domain("one", SPIN, "vcpus = 2"))
    lines = [line.split() for line in shared.ok("vcpu-list", "one").splitlines()]
    assert lines[0] == ["Name", "ID", "VCPU", "CPU", "State", "Time(s)"]
    assert [line[2:5] for line in lines[1:]] == [["0", "0", "r--"], ["1", "-", "--p"]]
    assert "free_memory" in shared.ok("info")
    facts = json.loads(shared.ok("info", "--json"))
    assert (facts["xen_major"], facts["xen_minor"], facts["domains"]) == (4, 17, 1)
    assert "MiB of machine memory" in shared.ok("dmesg", "-c")
    assert shared.ok("dmesg") == ""
    top = json.loads(shared.ok("top", "--json", "-d", "0.3"))
    assert top[0]["name"] == "one" and top[0]["cpu_percent"] > 20
    assert shared.ok("top", "-d", "0.1").split()[0] == "Name"
    rows = shared.ok("top", "-b", "-i", "3", "-d", "0.1").splitlines()
    assert [row.split()[0] for row in rows] == ["Name", "one"] * 3
    assert "pvhvd is up" in shared.ok("daemon", "status")


def test_exits_by_kind(shared: Pvhv) -> None:
    # push $0; popf (nothing); xen_version; cpuid; rdmsr of EFER: a hypercall, and two instructions to be emulated
    code = b"\xb8\x11\0\0\0\x31\xff\x0f\x05" + b"\x31\xc0\x0f\xa2" + b"\xb9\x80\0\0\xc0\x0f\x32"
    shared.ok("create", shared.domain("busy", code + b"\xeb" + (254 - len(code)).to_bytes(1, "little")))
    (row,) = json.loads(shared.ok("top", "--json", "-d", "0.3"))
    assert row["hypercalls"]["xen_version"] == row["hypercalls_per_s"] > 10
    assert set(row["exits"]) == {"cpuid", "general_protection"} and row["exits_per_s"] > 20
    heading, line, calls, exits = shared.ok("top", "-v", "-d", "0.3").splitlines()
    shown = dict(zip(heading.split(), line.split(), strict=True))
    assert shown["Syscalls/s"] == shown["Faults/s"] == shown["Other/s"] == "0"
    assert int(shown["Hypercalls/s"]) > 10 and int(shown["Emulated/s"]) > 20
    assert calls.startswith("  hypercalls a second: xen_version ") and "cpuid" in exits
    watching = shared.start("top", "-b", "-d", "0.1", "--json")
    assert watching.stdout is not None and json.loads(watching.stdout.readline())
    shared.ok("destroy", "busy")  # while it is looked at
    while json.loads(watching.stdout.readline()):
        pass
    watching.terminate()
    watching.communicate(timeout=30)


def test_hypercalls(shared: Pvhv) -> None:
    rows = json.loads(shared.ok("hypercalls", "--json"))
    by_name = {row["name"]: row for row in rows}
    assert by_name["mmu_update"]["number"] == 1
    assert by_name["mmu_update"]["handler"].startswith("pvhv.core.calls.")
    assert by_name["EVTCHNOP_send"]["command_of"] == "event_channel_op"
    assert by_name["tmem_op"]["handler"] is None
    assert all(row["status"] for row in rows)
    assert "update_va_mapping" in shared.ok("hypercalls")


def test_trace(shared: Pvhv) -> None:
    (shared.directory / "traced.cfg").write_text('kernel = "test-hello"\nname = "traced"\nclock = "virtual"')
    for options in ((), ("--json",)):
        shared.ok("create", "-p", "traced.cfg")
        process = shared.start("trace", "traced", *options)
        assert process.stderr and process.stderr.readline() == b"pvhv: tracing traced\n"
        shared.ok("unpause", "traced")
        out, error = process.communicate(timeout=30)
        assert process.returncode == 0, error
        if options:
            records = [json.loads(line) for line in out.splitlines()]
            assert records[-1]["name"] == "sched_op" and records[-1]["in"] == [{"reason": 0}]
        else:
            assert b"sched_op.shutdown({reason=0})" in out.splitlines()[-1]
        shared.until(lambda: not shared.list())


def test_console_follows_from_the_first_byte(shared: Pvhv) -> None:
    (shared.directory / "guest.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    shared.ok("create", "guest.cfg")
    shared.until(lambda: "$" in shared.ok("console", "guest"))
    assert "Welcome" in shared.ok("console", "guest", stdin="echo for everybody\n")
    seen = shared.ok("console", "guest")
    assert seen.startswith("guest_kernel") or "Welcome" in seen
    assert seen.count("for everybody") == 2  # typed, and said
    follower = shared.start("console", "guest", stdin=subprocess.PIPE)
    assert follower.stdout
    first = os.read(follower.stdout.fileno(), 65536)
    shared.ok("console", "guest", stdin="exit\n")
    out, _error = follower.communicate(timeout=30)
    assert follower.returncode == 0
    assert (first + out).decode().replace("\r", "").startswith(seen)


def test_twenty_domains(shared: Pvhv) -> None:
    shared.ok("create", *(shared.domain(f"many{number}", SPIN) for number in range(20)))
    assert [row["state"] for row in shared.list().values()] == ["r-----"] * 20
    shared.ok("daemon", "stop")


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (["create", "nothing.cfg"], "there is no domain file nothing.cfg", 1),
        (["create", "."], "is a directory", 1),
        (["create", ""], "the name of the domain file is empty", 2),
        (["create", "good.cfg", "kernel="], "no kernel is named", 1),
        (["create"], "no domain file is named", 2),
        (["create", "good.cfg", "Memory=3"], "is not a setting", 2),
        (["create", "good.cfg", "memroy"], "there is no domain file memroy", 1),
        (["create", "good.cfg", "memory=1"], "too little memory", 1),
        (["create", "good.cfg", "memory=1000000"], "left for good", 1),
        (["create", "-c", "--escape", "^^^", "good.cfg"], "the escape key is", 2),
        (["create", "--timeout", "x", "good.cfg"], "--timeout", 2),
        (["create", "kernelless.cfg"], "no kernel is named", 1),
        (["create", "bare.cfg"], "bare.cfg:2: yes is no value for", 1),
        (["create", "text.cfg"], "is not an ELF file", 1),
        (["create", "arm.cfg"], "for another machine (64-bit ARM)", 1),
        (["create", "short.cfg"], "is cut short", 1),
        (["create", "noteless.cfg"], "no Xen notes", 1),
        (["create", "good.cfg", "ramdisk=none"], "there is no file", 1),
        (["top", "-d", "inf"], "'--delay'", 2),
        (["destroy", ""], "there is no domain ''", 1),
        (["destroy", "a\nb"], "there is no domain 'a\\nb'", 1),
        (["console", "nobody"], "there is no domain nobody", 1),
        (["trace", "nobody"], "there is no domain nobody", 1),
        (["sysrq", "nobody", "h"], "there is no domain nobody", 1),
        (["mem-set", "nobody", "64"], "there is no domain nobody", 1),
        (["mem-set", "nobody", "much"], "'much' is not a size of memory", 2),
        (["mem-max", "nobody", "-5"], "No such option", 2),
        (["mem-set", "nobody", "0"], "'0' is too little or too much memory", 2),
        (["mem-set", "nobody", "99999999999t"], "is too little or too much memory for a domain", 2),
        (["vcpu-set", "nobody", "two"], "'VCPUS'", 2),
        (["sysrq", "nobody", "help"], "'help' is not a key of the magic SysRq", 2),
        (["sysrq", "nobody", "\n"], "is not a key of the magic SysRq", 2),
        (["destroy"], "Missing argument 'DOMAIN'", 2),
        (["fly"], "No such command 'fly'", 2),
        (["build", "nowhere"], "nowhere is not a directory", 1),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    shared: Pvhv, arguments: list[str], words: str, status: int
) -> None:
    directory: Path = shared.directory
    shared.domain("good", SPIN)
    (directory / "kernelless.cfg").write_text("memory = 3")
    (directory / "bare.cfg").write_text("memory = 3\nkernel = yes")
    kernels = {
        "text": b"#!/bin/sh\n" * 50,
        "arm": Recipe(machine=183).build(),
        "short": Recipe(sections=False).build()[:9000],
        "noteless": Recipe(notes=dict.fromkeys(range(19), "absent")).build(),
    }
    for name, data in kernels.items():
        (directory / f"{name}.elf").write_bytes(data)
        (directory / f"{name}.cfg").write_text(f'kernel = "{name}.elf"')
    assert words in shared.fails(*arguments, status=status)
    shared.until(lambda: shared.list() == {})  # what was begun is taken apart in a moment
