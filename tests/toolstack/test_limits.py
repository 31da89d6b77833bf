# SPDX-License-Identifier: GPL-2.0-or-later
"""Each bound that `pvhv daemon limits` shows is one: here something goes beyond it, or a test elsewhere does so."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from pvhv.abi.io import xs_wire as wire
from pvhv.abi.io.xs_wire import XSD_SOCKMSG_CODEC
from pvhv.abi.xen import DOMID_SELF, CONSOLEIO_write, HYPERVISOR_mmu_update, HYPERVISOR_multicall
from pvhv.core import hypervisor, xenlog
from pvhv.core.calls import console_io
from pvhv.core.mm import guestmem
from pvhv.core.mm.guestmem import GuestMemory
from pvhv.core.sched.timeline import CANCELLED_KEPT
from pvhv.core.vcpu import VCPU
from pvhv.devices.xenstore import sockets
from pvhv.devices.xenstore.store import Store
from pvhv.machine.engine import Engine
from pvhv.observe import capture, following, orc, symbols, tally
from pvhv.observe.record import OTHERS, Record
from pvhv.observe.syscall_names import KERNELS
from pvhv.testing import Machine
from pvhv.toolstack import debugging, elf, elf_symbols, follow, host, limits, looking, rpc, tracing
from pvhv.toolstack.errors import ToolstackError
from tests.devices.test_xenstore import Guest as Driver
from tests.toolstack.recipes import BASE, SPIN, Recipe, shutdown

ROOT = Path(__file__).parents[2]

ELSEWHERE = {
    "clients": "tests/toolstack/test_server.py::test_more_clients_than_there_may_be_wait",
    "strangers": "tests/toolstack/test_server.py::test_strangers_make_room",
    "cores": "tests/cli/test_verbs.py::test_who_does_not_read_a_core_keeps_nobody_from_anything",
    "calls": "tests/toolstack/test_server.py::test_a_client_has_so_many_calls_under_way",
    "calls-bytes": "tests/toolstack/test_server.py::test_a_client_has_so_many_bytes_under_way",
    "unread-output": "tests/devices/test_console.py::test_a_lossless_reader_holds_the_guest_back_and_gets_everything",
    "gdb-packet": "tests/observe/test_gdb_packets.py::test_damage",
    "gdb-breakpoints": "tests/observe/test_gdb_server.py::test_there_is_room_for_so_many",
    "gdb-watchpoints": "tests/observe/test_gdb_server.py::test_there_is_room_for_so_many",
    "store-events": "tests/devices/test_xenstore_tools.py::test_a_tool_that_reads_nothing_costs_a_bounded_amount",
    "debug-key-lines": "tests/core/test_keyhandler.py::test_a_long_list_is_told_in_part",
    "console-head": "tests/devices/test_console.py::test_a_flood_keeps_its_beginning_and_its_end",
    "console-tail": "tests/devices/test_console.py::test_a_flood_keeps_its_beginning_and_its_end",
    "console-log": "tests/toolstack/test_console_log.py::test_it_does_not_grow_for_ever",
    "typed": "tests/devices/test_console.py::test_input_waits_for_room",
    "disks": "tests/toolstack/test_config.py::test_a_domain_has_so_many_disks",
    "trace-requests": "tests/observe/test_device_trace.py::test_requests_of_rings_that_went_are_forgotten",
    "disk-requests": "tests/devices/test_block.py::test_more_requests_than_may_be_under_way",
    "disk-bytes": "tests/devices/test_block_features.py::test_more_bytes_than_may_be_under_way",
    "disk-queues": "tests/devices/test_block_features.py::test_rings_that_are_none",
    "disk-pages": "tests/devices/test_block_features.py::test_more_pages_than_are_kept",
    "virtio-requests": "tests/hvm/test_platform_virtio.py::test_many_requests_for_one_notification",
    "virtio-piece": "tests/hvm/test_platform_virtio.py::test_a_request_of_all_memory_many_times_is_done_in_pieces",
    "ide-chunk": "tests/hvm/test_platform_ide.py::test_a_long_command_of_48_bits_goes_chunk_by_chunk",
    "image-tables": "tests/images/test_qcow2.py::test_more_tables_than_fit_into_memory",
    "image-dropped": "tests/images/test_qcow2.py::test_what_waits_to_be_free_is_bounded",
    "backing-files": "tests/toolstack/test_images.py::test_images_that_cannot_be",
    "image-l1": "tests/images/test_fuzz.py::test_a_table_that_would_be_huge_is_refused",
    "image-refcount-table": "tests/images/test_fuzz.py::test_a_table_that_would_be_huge_is_refused",
    "image-snapshots": "tests/images/test_fuzz.py::test_a_table_that_would_be_huge_is_refused",
    "quick-restarts": "tests/toolstack/test_lives.py::test_a_guest_that_hardly_lives_is_kept_after_a_while",
    "event-channels": "tests/core/test_events.py::test_the_configured_limit_is_the_highest_port",
    "event-channels-fifo": "tests/core/test_event_fifo.py::test_there_are_131071_ports",
    "grant-frames": "tests/core/test_grants.py::test_what_setup_refuses",
    "maptrack-frames": "tests/core/test_grants.py::test_handles_run_out",
    "translated-blocks": "tests/hvm/test_binary_translation.py::test_what_is_remembered_of_a_guest_is_bounded",
    "callouts": "tests/hvm/test_binary_translation.py::test_what_is_remembered_of_a_guest_is_bounded",
    "counted-faults": "tests/hvm/test_binary_translation.py::test_what_is_remembered_of_a_guest_is_bounded",
    "store-nodes": "tests/devices/test_xenstore.py::test_quotas",
    "store-watches": "tests/devices/test_xenstore.py::test_quotas",
    "store-transactions": "tests/devices/test_xenstore.py::test_quotas",
    "store-accessed": "tests/devices/test_xenstore_tools.py::test_a_transaction_may_not_look_at_everything",
    "store-memory": "tests/devices/test_xenstore_tools.py::test_memory",
    "store-path": "tests/devices/test_xenstore_tools.py::test_a_path_has_a_longest_form",
    "domain-file": "tests/toolstack/test_config.py::test_files_that_are_none",
    "problems": "tests/toolstack/test_config.py::test_a_file_of_nothing_but_mistakes_is_answered_quickly_and_shortly",
    "name": "tests/toolstack/test_config.py::test_names_may_be_anything",
    "unpacked-kernel": "tests/toolstack/test_bzimage.py::test_a_bomb_does_not_go_off",
    "ramdisk": "tests/toolstack/test_ramdisk.py::test_larger_than_the_domain",
}
HERE: dict[str, Callable[..., None]] = {}


def beyond(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The test goes beyond these bounds."""

    def note(test: Callable[..., None]) -> Callable[..., None]:
        HERE.update(dict.fromkeys(names, test))
        return test

    return note


def most(name: str) -> int:
    return next(limit.most for limit in limits.limits() if limit.name == name)


def test_every_bound_has_a_test_and_every_test_is_there() -> None:
    names = [limit.name for limit in limits.limits()]
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted({**ELSEWHERE, **HERE}) and not set(ELSEWHERE) & set(HERE)
    for place in ELSEWHERE.values():
        path, _, function = place.partition("::")
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, place


# -- pvhvd -----------------------------------------------------------------------------------------------------
def kernel(directory: Path, code: bytes = SPIN) -> Path:
    (directory / "kernel.elf").write_bytes(Recipe(code=code).build())
    return directory / "kernel.elf"


@beyond("domains")
def test_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MOST_DOMAINS", 3)
    with Machine() as machine:
        for number in range(3):
            machine.create(kernel(tmp_path), name=f"n{number}", memory=4, paused=True)
        with pytest.raises(ToolstackError, match="there are 3 domains, the most there may be"):
            machine.create(kernel(tmp_path), name="more", memory=4, paused=True)


FLOOD = """
import os, sys, time
from pathlib import Path
from pvhv.toolstack import daemon_log
if sys.argv[2] == "slow":
    daemon_log.LINES_A_SECOND = 10**9
daemon_log.log.path = Path(sys.argv[1])
for n in range(1000):
    daemon_log.log(f"{n} " + "x" * (4000 if n else 10**6))
"""


@beyond("log", "log-entry", "log-lines")
@pytest.mark.parametrize("speed", ["slow", "fast"])
def test_the_log(tmp_path: Path, speed: str) -> None:
    path = tmp_path / "pvhvd.log"
    with path.open("ab") as out:
        subprocess.run([sys.executable, "-c", FLOOD, path, speed], stdout=out, cwd=ROOT, check=True)
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    entries = path.read_text().splitlines()
    if speed == "slow":
        assert {file.name for file in tmp_path.iterdir()} == {"pvhvd.log", "pvhvd.log.1"}
        assert most("log") < written <= 2 * (most("log") + most("log-entry"))
        assert entries[-1].split()[2] == "999"
    else:
        seconds = 1 + int(entries[-1].split()[2] != "49")  # it may have been at work when a second began
        assert len(entries) <= seconds * (most("log-lines") + 1)
        assert len(entries[0]) < most("log-entry") + 30


@beyond("dmesg", "dmesg-line")
def test_dmesg() -> None:
    ring = xenlog.ConsoleRing(lambda: 0)
    for number in range(most("dmesg") + 10):
        ring.log(f"{number} " + "x" * 10)
    assert ring.read().splitlines()[0].endswith(" 10 xxxxxxxxxx") and ring.read().count("\n") == most("dmesg")
    ring.log("y" * 10**6)
    assert len(ring.read().splitlines()[-1]) < most("dmesg-line") + 40


@beyond("bugs")
def test_bugs() -> None:
    with Machine() as machine:
        for number in range(200):
            machine.hypervisor.bug(None, ValueError(f"bug {number}"))
        assert machine.hypervisor.bugs_met == 200 and len(machine.hypervisor.bugs) == hypervisor.BUGS_KEPT
        assert "bug 199" in machine.hypervisor.bugs[-1]


@beyond("cancelled-timers")
def test_cancelled_timers(tmp_path: Path) -> None:
    with Machine() as machine:
        timeline = machine.create(kernel(tmp_path), paused=True).domain.timeline
        before = len(timeline.timers)
        for _ in range(100_000):
            timeline.after(1 << 60, lambda: None).cancel()
        assert len(timeline.timers) <= before + 2 * CANCELLED_KEPT


# -- clients ---------------------------------------------------------------------------------------------------
def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@beyond("greeting", "request", "request-parts", "request-text")
def test_requests() -> None:
    def refused(body: bytes, greeted: bool = True) -> bool:
        unpacker = rpc.RequestUnpacker()
        if greeted:
            unpacker.greeted()
        try:
            return not unpacker.feed(framed(body))
        except rpc.ProtocolError:
            return True

    def asks(value: object) -> bytes:
        packed: bytes = msgpack.packb({"id": 1, "call": "x", "args": {"value": value}})
        return packed

    assert refused(asks(bytes(most("greeting"))), greeted=False) and not refused(asks(bytes(2000)), greeted=False)
    assert refused(asks(bytes(most("request")))) and not refused(asks(bytes(most("request") - 100)))
    assert refused(asks([[]] * most("request-parts"))) and not refused(asks([[]] * (most("request-parts") - 10)))
    assert refused(asks("x" * (most("request-text") + 1))) and not refused(asks("x" * most("request-text")))


@beyond("notes")
def test_notes(tmp_path: Path) -> None:
    with Machine() as machine:
        guest = machine.create(kernel(tmp_path), paused=True)
        loop = asyncio.new_event_loop()
        follower = follow.Follower(machine.host, guest, loop, whole_run=True)
        for _ in range(1000):
            machine.host._announce(guest, "restarted")
        assert len(follower.notes) == most("notes")
        follower.close()
        loop.close()


def multicall(entries: int) -> Record:
    inner = tuple(capture.HypercallRecord(HYPERVISOR_mmu_update, (), None, 0, None) for _ in range(entries))
    call = capture.HypercallRecord(HYPERVISOR_multicall, (), None, 0, None, inner)
    return Record(0, 1, 0, "hypercall", 0, True, (call,))


@beyond("trace")
def test_a_trace_that_nobody_reads(tmp_path: Path) -> None:
    with Machine() as machine:
        guest = machine.create(kernel(tmp_path), clock="wall", paused=True)
        loop = asyncio.new_event_loop()
        trace = tracing.Tracing(machine.host, tracing.Recorder(machine.hypervisor), guest, loop)
        for _ in range(5000):
            trace._take(multicall(31))
        assert len(trace.records) == most("trace") // 32 and trace.dropped == 5000 - len(trace.records)
        taken = 0
        while batch := trace._batch():
            assert sum(map(tracing.weight, batch)) < tracing.BATCH + 32
            taken += len(batch)
        assert taken == most("trace") // 32
        trace.close()
        loop.close()


@beyond("trace-items", "trace-entries")
def test_what_a_record_keeps_of_a_batch(tmp_path: Path) -> None:
    table = (BASE + 0x10_1000).to_bytes(8, "little")

    def ask(number: int, elements: int) -> bytes:
        """mov $table, %rdi; mov $elements, %esi; xor %edx, %edx; mov $DOMID_SELF, %r10d; mov $number, %eax; syscall"""
        return (
            b"\x48\xbf" + table + b"\xbe" + elements.to_bytes(4, "little") + b"\x31\xd2"
            b"\x41\xba" + DOMID_SELF.to_bytes(4, "little") + b"\xb8" + number.to_bytes(4, "little") + b"\x0f\x05"
        )

    told: list[Record] = []
    code = ask(HYPERVISOR_mmu_update, 40) + ask(HYPERVISOR_multicall, 60) + shutdown(0)
    with Machine() as machine:
        (tmp_path / "kernel.elf").write_bytes(Recipe(code=code, data=b"").build())
        guest = machine.create(tmp_path / "kernel.elf", paused=True)
        tracing.Recorder(machine.hypervisor).start(guest.domain, told.append, tracing.EVERYTHING)
        guest.start()
        assert machine.run(guest)
    calls = {call.number: call for call in (record.data[0] for record in told if record.kind == "hypercall")}
    updates, entries = calls[HYPERVISOR_mmu_update].given, calls[HYPERVISOR_multicall].entries
    assert (len(updates.items), updates.total) == (most("trace-items"), 40)
    assert len(entries) == most("trace-entries")


@beyond("summary-rows")
def test_a_summary() -> None:
    summed = tally.Tally()
    for port in range(3 * most("summary-rows")):
        summed.take(Record(0, 1, 0, "io", 0, True, (port, 1, False, 0)))
        call = tracing_call(port)
        summed.take(Record(0, 1, 0, "return", 0, True, (call,)))
    plain = summed.plain(KERNELS["linux"])
    for rows, counted in ((plain["rows"], "rows"), (plain["calls"], "calls")):
        assert len(rows) == most("summary-rows") + 1, counted
        assert max(rows, key=lambda row: row["count"])["name"] == OTHERS
        assert sum(row["count"] for row in rows) == 3 * most("summary-rows")


def tracing_call(number: int) -> Any:
    return following.SystemCall(number, "x86-64", 0, "returned", 0, 0, 0, 0, ())


@beyond("followed-calls", "followed-exits")
def test_calls_that_never_return() -> None:
    told: list[Record] = []
    wanted = following.Wanted(syscalls=frozenset(), endless=frozenset())
    follows = following.Following(wanted, told.append)
    for stack in range(1, 3 * most("followed-calls") + 1):
        follows.take(Record(stack, 1, 0, "syscall", 0, False, (0, (), "x86-64"), stack=stack << 12))
    assert len(follows.open) == most("followed-calls")
    ends = [record.data[0] for record in told if record.kind == "return"]
    assert len(ends) == 2 * most("followed-calls") and {end.how for end in ends} == {"unfinished"}
    assert [record.call for record in told if record.kind == "return"] == list(range(1, len(ends) + 1))
    for port in range(1000):
        follows.take(Record(0, 1, 0, "io", 0, True, (port, 1, False, 0), stack=stack << 12))
    exits = follows.open[stack << 12].exits
    assert len(exits) <= most("followed-exits") + 1 and exits["io", OTHERS] == 1001 - most("followed-exits")


@beyond("store-unheard", "store-ahead")
def test_a_tool_that_asks_and_never_listens() -> None:
    store = Store()
    store.write("/long", "x" * 4000)
    tool = sockets.Socket(store)
    request = XSD_SOCKMSG_CODEC.pack(wire.XS_READ, 1, 0, 6) + b"/long\0"
    taken = 0
    while tool.feed(request * 1000):
        taken += 1
    assert len(tool.connection.incoming) + len(request) * 1000 < most("store-unheard")
    assert tool.connection.bytes_waiting + len(tool._laid_out) <= most("store-ahead") + 2 * 4096
    heard = 0
    while data := tool.take():
        heard += data.count(b"x" * 4000)
        tool.lay_out()
    assert heard == taken * 1000 and tool.feed(request)
    tool.close()


@beyond("debug-keys")
def test_debug_keys() -> None:
    with Machine() as machine:
        access = looking.LookAccess(machine.host)
        thread = threading.Thread(target=machine.hypervisor.run)
        thread.start()
        asyncio.run(access.debug_keys(None, "h" * 1000))  # type: ignore[arg-type]
        machine.hypervisor.stop()
        thread.join()
        assert machine.hypervisor.console.read().count("'h' pressed") == most("debug-keys")


@beyond("gdb-unread")
def test_a_gdb_that_does_not_wait_for_answers(tmp_path: Path) -> None:
    with Machine() as machine:
        guest = machine.create(kernel(tmp_path))
        loop = asyncio.new_event_loop()
        session = debugging.Debugging(machine.host, guest, loop)
        with pytest.raises(ToolstackError, match="gdb sent too much that is not answered yet"):
            for _ in range(most("gdb-unread")):
                session.take(b"$g#67" * 1000)
        assert session.over and guest.domain.debugger is None
        loop.close()


# -- domains ---------------------------------------------------------------------------------------------------
@beyond("console_io")
def test_a_line_without_an_end(tmp_path: Path) -> None:
    with Machine() as machine:
        domain = machine.create(kernel(tmp_path), paused=True).domain
        longest = 0
        for _ in range(100):
            write_to_the_console(domain.vcpus[0], 1000)
            longest = max(longest, len(domain.console_buffer))
        assert longest <= most("console_io") and machine.hypervisor.console.read().count("x") > 90_000


def write_to_the_console(vcpu: VCPU, size: int) -> None:
    memory = SimpleNamespace(read=lambda _address, count: b"x" * count)
    stand_in = SimpleNamespace(memory=memory, domain=vcpu.domain)
    assert console_io.console_io(stand_in, CONSOLEIO_write, size, 0) == 0  # type: ignore[arg-type]


@beyond("known-pages")
def test_pages_whose_frames_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guestmem, "MOST_KNOWN", 16)
    with Machine() as machine:
        vcpu = machine.create(kernel(tmp_path), paused=True).domain.vcpus[0]
        memory = GuestMemory(machine.hypervisor.ram)
        memory.root = vcpu.guest_table
        for page in range(100):
            assert memory.read(BASE + 0x10_0000 + page % 3 * 0x1000, 2)
            memory.translate(BASE + page * 0x1000, False)
            assert len(memory.read_tlb) <= 16


# 1: mov %ebp, 2f+1(%rip); call 2f; cmp %ebp, %eax; jne 3f; dec %ebp; jnz 1b; jmp 4f; 2: mov $0, %eax; ret; 3: ud2; 4:
REWRITE = bytes.fromhex("892d10000000 e80a000000 39e8 750c ffcd 75ed eb08 b800000000c3 0f0b")


@beyond("code")
def test_code_that_is_never_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine.__init__, "__defaults__", (2 << 20,))
    turns = 20_000  # of a few hundred bytes
    code = b"\xbd" + turns.to_bytes(4, "little") + REWRITE + shutdown(0)
    with Machine() as machine:
        guest = machine.create(kernel(tmp_path, code))
        assert machine.run(guest, timeout=60) and guest.ended is not None
        assert guest.ended.name == "poweroff", guest.report


@beyond("symbols", "symbol-names")
def test_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "MOST_SYMBOLS", 100)
    monkeypatch.setattr(symbols, "MOST_NAME_BYTES", 3000)
    assert len(symbols.Symbols(symbols.Symbol(n, 1, f"s{n}") for n in range(100))) == 100
    with pytest.raises(symbols.TooMany, match="more than 100 symbols"):
        symbols.Symbols(symbols.Symbol(n, 1, f"s{n}") for n in count())
    with pytest.raises(symbols.TooMany, match="names"):
        symbols.Symbols(symbols.Symbol(n, 1, "x" * 1000) for n in range(5))


@beyond("orc-rows")
def test_rows_to_unwind_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orc, "MOST_ROWS", 10)
    assert orc.debug_frame(bytes(4 * 11), 0, bytes(6 * 11), (6, 1)) == b""
    assert orc.debug_frame(bytes(4 * 10), 0, bytes(6 * 10), (6, 1)) != b""


@beyond("store-outstanding", "store-node-size", "store-permissions")
def test_what_a_guest_has_of_the_store() -> None:
    with Machine() as machine:
        store = machine.host.store
        guest = Driver(store, 1)
        assert guest.write("data/a", bytes(most("store-node-size") + 1)) == b"ENOSPC\0"
        many = b"".join(b"r%d\0" % n for n in range(most("store-permissions") + 1))
        assert guest.write("data/a", b"") == b"OK\0"
        assert guest.ask(wire.XS_SET_PERMS, b"data/a\0n1\0" + many) == b"ENOSPC\0"
        connection = guest.ring.connection
        while not connection.must_read_first:
            connection.reply(wire.XS_READ, 0, 0, b"x")
        assert connection.replies_waiting == most("store-outstanding")


# -- files -----------------------------------------------------------------------------------------------------
@beyond("kernel")
def test_a_kernel_as_large_as_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kernel(tmp_path)
    with path.open("r+b") as file:
        file.truncate(most("kernel") + 1)
    with pytest.raises(ToolstackError, match="too large to be a kernel"):
        elf.read(path)


@beyond("kernel-notes")
def test_a_kernel_of_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf, "MOST_NOTES", 3)
    with pytest.raises(ToolstackError, match="more than 3 notes"):
        elf.parse(Recipe().build(), Path("kernel.elf"))


@beyond("symbol-name")
def test_a_symbol_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf_symbols, "LONGEST_NAME", 8)
    assert {name for _at, _size, name in elf_symbols.symbols_in(elf_symbols.Image(Recipe().build(), Path("k")))} == {
        "start", "end_of_i", "table"
    }  # fmt: skip
