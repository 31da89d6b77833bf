# SPDX-License-Identifier: GPL-2.0-or-later
"""xl's verbs with the options that scripts use, and domains whose names are anything."""

from __future__ import annotations

import json
import re
import signal
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pvhv.toolstack import dump_access, limits
from pvhv.toolstack.names import as_bytes
from tests.cli.conftest import Pvhv
from tests.toolstack.recipes import SPIN, UD2, shutdown

# What nobody should see raw: it clears a terminal, and has a line end, a quote, slashes and a byte that is no UTF-8.
ODD = "a/../b \x1b[2J\n'\udcff"
SHOWN = r"a/../b \x1b[2J\n'\xff".replace(r"\n", r"\x0a")


def test_a_dry_run_prints_what_xl_would(shared: Pvhv) -> None:
    shared.domain("dry", SPIN, "vcpus = 2\nvif = ['']\nmemory = '0x10'\nmaxmem = 24\non_crash = 'coredump-destroy'")
    done = shared.run("create", "-n", "dry.cfg", "extra=a b")
    found = json.loads(done.stdout)
    assert found["c_info"]["name"] == "dry" and found["b_info"]["avail_vcpus"] == [0, 1]
    assert (found["b_info"]["target_memkb"], found["b_info"]["max_memkb"]) == (16 << 10, 24 << 10)
    assert (found["b_info"]["cmdline"], found["on_crash"]) == ("a b", "coredump_destroy")
    assert "'memory' is given a second time" in done.stderr and "'vif' is passed over" in done.stderr
    for arguments in (["-N", "create", "dry.cfg"], ["create", "--dryrun", "-q", "-f", "dry.cfg", "dry.cfg"]):
        done = shared.run(*arguments)
        assert done.returncode == 0 and done.stdout.count('"c_info"') == len([a for a in arguments if a == "dry.cfg"])
        assert ("passed over" in done.stderr) == ("-q" not in arguments)
    assert shared.run("create", "-n", "dry.cfg", "disk=['x']").returncode == 1
    assert shared.list() == {} and not (shared.runtime / "domains.json").exists()  # nothing was even started for it


def test_several_files_make_several_domains(shared: Pvhv) -> None:
    files = [shared.domain(name, SPIN) for name in ("first", "second", "third")]
    shared.ok("create", files[1])
    done = shared.run("create", *files, "memory=10")
    assert done.returncode == 1 and "there is a domain second already" in done.stderr
    assert set(shared.list()) == {"first", "second", "third"} and shared.list()["third"]["memory"] == 10
    assert "-c attaches one console" in shared.fails("create", "-c", *files, status=2)
    (shared.directory / "wrong.cfg").write_text("memory = 0\nvcpus = 99")
    done = shared.run("create", "wrong.cfg", "none.cfg", files[0])
    assert done.returncode == 1 and "3 things are wrong" in done.stderr and "no domain file none.cfg" in done.stderr
    for name in ("first", "second", "third"):
        shared.ask("destroy", domain=name)


def test_in_the_foreground_it_waits_for_the_end_of_all(shared: Pvhv) -> None:
    ends = [shared.domain("off", shutdown(0)), shared.domain("dies", UD2, "on_crash = 'destroy'")]
    done = shared.run("create", "-F", "-q", *ends)
    assert (done.returncode, done.stdout) == (20, "") and "dies crashed" in done.stderr
    assert shared.list() == {}
    process = shared.start("create", "-F", "-e", shared.domain("stays", SPIN))
    shared.until(lambda: shared.list().get("stays", {}).get("state") == "r-----")
    assert process.poll() is None
    shared.ask("destroy", domain="stays")
    assert process.wait(30) == 1


def test_debug_tells_on_standard_error_what_was_read(shared: Pvhv) -> None:
    done = shared.run("create", "-d", "-p", shared.domain("told", SPIN))
    assert '"name": "told"' in done.stderr and "domain told is there" in done.stdout
    rows = json.loads(shared.ok("list", "--long", "told"))
    assert rows[0]["domid"] == shared.list()["told"]["domid"] and rows[0]["config"]["c_info"]["name"] == "told"
    assert rows[0]["config"]["c_info"]["uuid"] == shared.list()["told"]["uuid"]
    [heading, row] = shared.ok("list", "-v", "-Z", "-c", "-n", "told").splitlines()
    assert heading.split()[6:] == ["UUID", "Reason-Code", "Security", "Label", "Cpupool", "NODE", "Affinity"]
    assert row.split()[-4:] == ["-", "-", "Pool-0", "all"]
    assert json.loads(shared.ok("vm-list", "--json"))[0]["name"] == "told"
    assert shared.ok("vcpu-list", "told", "told").count("told") == 2
    assert shared.ok("info", "xen_minor") == "17\n"
    assert shared.ok("uptime").split()[:3] == ["Name", "ID", "Uptime"]
    assert shared.ok("uptime", "-s", "told").strip().endswith(f"told ({rows[0]['domid']})")
    shared.ask("destroy", domain="told")


def is_up(pvhv: Pvhv, name: str, lives: int) -> bool:
    """Whether a guest is at its prompt in that life, and hears what it is asked."""
    log = pvhv.runtime / "console" / f"guest-{name}.log"
    text = log.read_text() if log.exists() else ""
    return text.count("Welcome") == lives and text.endswith("$ ")


def test_all_are_asked_at_once(shared: Pvhv) -> None:
    (shared.directory / "g.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    for name in ("one", "two"):
        shared.ok("create", "g.cfg", f"name={name}")
        shared.until(lambda name=name: is_up(shared, name, 1))
    assert "$" in shared.ok("console", "-t", "pv", "-n", "0", "two")
    shared.ok("create", "-p", shared.domain("paused", SPIN))
    before = {name: row["domid"] for name, row in shared.list().items()}
    done = shared.run("reboot", "-a", "-w", "-F")
    assert done.returncode == 1 and "domain paused is paused: it cannot be asked to reboot" in done.stderr
    assert done.stderr.count("pvhv: ") == 1
    for name in ("one", "two"):
        shared.until(lambda name=name: is_up(shared, name, 2))
        assert shared.list()[name]["domid"] != before[name]
    shared.ask("destroy", domain="paused")
    shared.ok("shutdown", "--all", "--wait")
    shared.until(lambda: shared.list() == {})
    shared.ok("shutdown", "-a")  # nobody is there to be asked
    for verb in ("shutdown", "reboot"):
        assert "give -a for all of them" in shared.fails(verb, status=2)
        assert "give -a for all of them" in shared.fails(verb, "-a", "one", status=2)


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (["console", "-t", "serial", "it"], "domain it has no serial console 0", 1),
        (["console", "-n", "1", "it"], "domain it has no pv console 1", 1),
        (["console", "-t", "vnc", "it"], "is not a type of console", 2),
        (["destroy", "-f", "0"], "domain 0 is pvhvd itself", 2),
        (["destroy", "Domain-0"], "domain 0 is pvhvd itself", 2),
        (["rename", "it", "Domain-0"], "Domain-0 is the name of domain 0", 1),
        (["migrate", "-C", "x", "it", "elsewhere"], "migrate: domains cannot be saved, restored or sent elsewhere", 1),
        (["pci-attach", "it", "0000:00:1f.0"], "pci-attach: nothing of the host's hardware is handed", 1),
        (["network-attach", "it", "mac=00:16:3e:00:00:01"], "network-attach: there are no network interfaces", 1),
        (["block-attach", "it", "phy:/nowhere/x,xvda,w"], "there is no file /nowhere/x", 1),
        (["vcpu-pin", "--force", "it", "0", "all", "-"], "vcpu-pin: there is one processor here", 1),
        (["-N", "destroy", "it"], "it goes with create alone", 2),
        (["dump-core", "it", "nowhere/core"], "cannot write nowhere/core: No such file or directory", 1),
        (["dump-core", "none", "core"], "there is no domain none", 1),
        (["debug-keys", "\n"], "are not keys", 2),
        (["destory", "it"], "Did you mean 'destroy'?", 2),
        (["pa"], "Missing argument 'DOMAIN'", 2),
        (["xenstore-"], "may be xenstore-chmod or xenstore-control", 2),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(shared: Pvhv, arguments: list[str], words: str, status: int) -> None:
    if "it" not in shared.list():
        shared.ok("create", "-p", shared.domain("it", SPIN))
    assert words in " ".join(shared.fails(*arguments, status=status).split())
    assert not (shared.directory / "core").exists()


def test_help_is_a_verb(shared: Pvhv) -> None:
    assert "Commands:" in shared.ok("help") and "migrate" not in shared.ok("help")
    assert shared.ok("help", "dump-core") == shared.ok("dump-core", "--help")
    assert "Usage: pvhv migrate" in shared.ok("help", "migrate")
    assert "No such command" in shared.fails("help", "fly", status=2)
    assert shared.ok("-v", "-f", "-t", "-T", "lis").startswith("Name")


def test_a_core_is_written_where_it_is_wanted(shared: Pvhv) -> None:
    shared.ok("create", shared.domain("dumped", SPIN))
    done = shared.run("dump-core", "dumped", "core")
    path: Path = shared.directory / "core"
    assert done.returncode == 0 and done.stdout == "" and "dumped's core is in core: 8 MiB" in done.stderr
    with path.open("rb") as file:
        elf = ELFFile(file)
        pages = elf.get_section_by_name(".xen_p2m").data_size // 16
        assert struct.unpack_from("<QQ", elf.get_section_by_name(".note.Xen").data(), 16 + 16 + 8) == (1, pages)
    piped = shared.start("dump-core", "dumped", "/dev/stdout")
    data = piped.stdout.read() if piped.stdout else b""
    assert piped.wait(30) == 0 and len(data) == path.stat().st_size and data[:4] == b"\x7fELF"
    assert shared.list()["dumped"]["state"] == "r-----"
    shared.ask("destroy", domain="dumped")
    path.unlink()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_a_dump_that_is_ended_leaves_nothing(shared: Pvhv, end: signal.Signals) -> None:
    shared.ok("create", shared.domain("large", SPIN), "memory=2000")
    process = shared.start("dump-core", "large", "large.core")
    shared.until(lambda: (shared.directory / "large.core").exists())
    process.send_signal(end)
    assert process.wait(30) == 128 + end
    assert not (shared.directory / "large.core").exists()
    shared.ask("destroy", domain="large")  # nobody dumps it any more


def test_who_does_not_read_a_core_keeps_nobody_from_anything(shared: Pvhv) -> None:
    shared.ok("create", shared.domain("unread", SPIN), "memory=200")
    client = shared.client()
    assert client is not None
    with client:
        for _dump in range(dump_access.CLIENTS + 1):
            client.start("dump_core", domain="unread")
        while "error" not in (message := client.receive()):
            assert set(message["item"]) <= {"dumping", "piece", "zeros"}
        assert message["error"]["message"] == f"{dump_access.CLIENTS} cores are being dumped already"
        before = shared.list()["unread"]["time"]
        shared.until(lambda: shared.list()["unread"]["time"] > before)  # it runs, and others are answered
    shared.until(lambda: shared.run("dump-core", "unread", "unread.core").returncode == 0)
    shared.ask("destroy", domain="unread")


def test_limits_are_the_same_with_a_host_process_and_without_one(pvhv: Pvhv) -> None:
    before = json.loads(pvhv.ok("daemon", "limits", "--json"))
    assert pvhv.client() is None
    pvhv.ok("create", "-p", pvhv.domain("it", SPIN))
    assert json.loads(pvhv.ok("daemon", "limits", "--json")) == before
    assert {row["name"] for row in before} == {limit.name for limit in limits.limits()}
    table = pvhv.ok("daemon", "limits").splitlines()
    assert table[0].split() == ["Limit", "Of", "each", "What", "Most", "Unit", "Beyond"]
    assert len(table) == len(before) + 1
    log = next(line for line in table if line.startswith("log "))
    assert re.search(r" 1  MiB +it becomes pvhvd\.log\.1", log)


def test_debug_keys_print_into_the_log(shared: Pvhv) -> None:
    shared.ok("create", shared.domain("known", SPIN))
    shared.ok("dmesg", "-c")
    assert shared.ok("debug-keys", "hqQ") == ""
    log = shared.ok("dmesg", "-c")
    assert "'h' pressed -> show this message" in log and " key 'e' => dump evtchn info" in log
    assert f"General information for domain {shared.list()['known']['domid']}:" in log
    assert "'Q' is one of Xen's, and there is nothing of that here" in log
    shared.ok("debug-keys", "*")
    assert shared.ok("dmesg").count("pressed ->") > 8
    shared.ask("destroy", domain="known")


def test_a_name_may_be_anything_and_moves_no_cursor(shared: Pvhv) -> None:
    shared.domain("odd", SPIN)
    told = shared.ok("create", "odd.cfg", f"name={ODD}")
    assert f"domain {SHOWN} is there" in told
    row = shared.list()[ODD]
    assert any(line.startswith(SHOWN + " ") for line in shared.ok("list").splitlines())
    said = shared.start("domname", str(row["domid"]))
    assert said.communicate(timeout=30)[0] == as_bytes(ODD + "\n")  # to a script as it is
    done = shared.run("create", "odd.cfg", f"name={ODD}")
    assert done.returncode == 1 and r"destroy $'a/../b \x1b[2J\x0a\x27\xff'" in done.stderr
    for text in (told, done.stderr, shared.fails("pause", "--", "-x"), shared.ok("dmesg")):
        assert "\x1b" not in text
    shared.ok("pause", "--", ODD)
    assert shared.list()[ODD]["state"] == "--p---"
    shared.ok("rename", "--", ODD, "-x")
    assert "pvhv: there is no domain" in shared.fails("destroy", "--", ODD)
    shared.ok("destroy", "--", "-x")


def test_a_number_is_an_id_before_it_is_a_name(shared: Pvhv) -> None:
    shared.ok("create", "-p", shared.domain("other", SPIN))
    number = shared.list()["other"]["domid"]
    shared.ok("create", "-p", shared.domain("numbered", SPIN), f"name={number}")
    assert shared.ok("domname", str(number)) == "other\n"
    shared.ask("destroy", domain=str(number))
    assert shared.ok("domname", str(number)) == f"{number}\n"
    shared.ask("destroy", domain=str(number))
