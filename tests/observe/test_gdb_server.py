# SPDX-License-Identifier: GPL-2.0-or-later
"""GDB's remote protocol against a domain: what is asked is answered, and nothing that is asked does harm."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvhv.machine import seam
from pvhv.machine.cpustate import RIP
from pvhv.observe.gdb.packets import PACKET_SIZE, packet
from pvhv.observe.gdb.server import MOST_BREAKPOINTS, MOST_WATCHPOINTS
from tests.observe.gdb_lab import CODE, DATA, INSTRUCTIONS, LOOP, LOOPING, POWEROFF, Lab
from tests.toolstack.recipes import BASE

STOPPED, INTERRUPTED, HIT = "T05thread:1;", "T02thread:1;", "T05swbreak:;thread:1;"


@pytest.fixture(params=["virtual", "wall"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, clock=request.param)
    made.ask("qSupported:multiprocess+;swbreak+;hwbreak+")
    yield made
    made.close()
    assert not made.hypervisor.bugs


Made = Callable[..., Lab]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Made]:
    labs: list[Lab] = []

    def made(code: bytes = LOOPING, clock: str = "virtual", kernel: str = "", vcpus: int = 1) -> Lab:
        labs.append(Lab(tmp_path, code, clock, kernel, vcpus))
        return labs[-1]

    yield made
    for lab in labs:
        lab.close()


def test_it_says_what_it_can(lab: Lab) -> None:
    features = lab.ask("qSupported:swbreak+").split(";")
    assert f"PacketSize={PACKET_SIZE:x}" in features
    assert {"qXfer:features:read+", "swbreak+", "hwbreak+", "vContSupported+", "QStartNoAckMode+"} <= set(features)
    assert lab.ask("vCont?") == "vCont;c;C;s;S;t;r"
    assert lab.ask("?") == STOPPED
    assert [lab.ask(each) for each in ("qfThreadInfo", "qsThreadInfo", "qC", "qAttached")] == ["m1", "l", "QC1", "1"]
    assert [lab.ask(each) for each in ("T1", "T2", "Hg1", "Hg0", "Hc-1", "Hg9")] == [
        "OK", "E03", "OK", "OK", "OK", "E03",
    ]  # fmt: skip
    assert bytes.fromhex(lab.ask("qThreadExtraInfo,1")) == b"vCPU 0, kernel mode, stopped"
    for unknown in ("vMustReplyEmpty", "qTStatus", "qOffsets", "!", "", "Z5,1000,8", "\x7f\x00", "qC3"):
        assert lab.ask(unknown) == ""


def test_the_description_comes_in_pieces(lab: Lab) -> None:
    whole = ""
    while True:
        piece = lab.ask(f"qXfer:features:read:target.xml:{len(whole):x},3e8")
        whole += piece[1:]
        if piece[0] == "l":
            break
        assert piece[0] == "m" and len(piece) == 1001
    assert whole.startswith("<?xml") and whole.endswith("</target>")
    assert lab.ask("qXfer:features:read:other.xml:0,100") == "E00"
    assert lab.ask("qXfer:features:read:target.xml:fffff,100") == "l"


def test_steps_are_of_one_instruction(lab: Lab) -> None:
    assert lab.register("rip") == CODE
    executed = lab.domain.timeline.cpu.pcpu.executed
    for count, each in enumerate([*INSTRUCTIONS, *INSTRUCTIONS, LOOP], 1):
        assert lab.ask("vCont;s:1;c") == STOPPED
        assert lab.register("rip") == each
        if lab.domain.timeline.virtual:
            assert lab.domain.timeline.cpu.pcpu.executed - executed == count
    assert lab.register("rax") == 2
    assert lab.ask("s") == STOPPED and lab.register("rip") == LOOP + 3
    assert lab.ask(f"vCont;r{LOOP:x},{LOOP + 7:x}:1") == STOPPED and lab.register("rip") == LOOP + 7


def test_breakpoints(lab: Lab) -> None:
    assert lab.ask(f"Z0,{LOOP + 4:x},1") == "OK"
    for count in (1, 2, 3):
        assert lab.ask("vCont;c") == HIT
        assert lab.register("rip") == LOOP + 4 and lab.register("rax") == count
        # As GDB does it: out, one step, in again.
        assert lab.ask(f"z0,{LOOP + 4:x},1") == "OK"
        assert lab.ask("vCont;s:1") == STOPPED and lab.register("rip") == LOOP + 7
        assert lab.ask(f"Z0,{LOOP + 4:x},1") == "OK"
    assert lab.ask(f"m{LOOP:x},9") == LOOPING[2:].hex()  # nothing of it is in memory
    assert lab.ask(f"z0,{LOOP + 4:x},1") == "OK" and lab.ask(f"Z1,{LOOP:x},1") == "OK"
    assert lab.ask("c") == "T05hwbreak:;thread:1;" and lab.register("rip") == LOOP
    assert lab.ask(f"z1,{LOOP:x},1") == "OK"
    lab.tell("c")
    lab.goes_on()
    assert not lab.sent
    assert lab.answer(b"\x03") == INTERRUPTED


# LOOP: incq DATA(%rip); mov DATA(%rip), %rcx; nop; mov %rcx, DATA+8(%rip); jmp LOOP
COUNTING = bytes.fromhex("31c0 48ff05f7100000 488b0df0100000 90 48890df0100000 ebe8")


def test_watchpoints(make: Made) -> None:
    if not seam.corrected:
        assert make().ask(f"Z2,{DATA:x},8") == ""  # GDB steps then
        return
    for clock in ("virtual", "wall"):
        lab = make(COUNTING, clock)
        for kind, name, places in (("2", "watch", (7,)), ("3", "rwatch", (7, 14)), ("4", "awatch", (7, 14))):
            assert lab.ask(f"Z{kind},{DATA:x},8") == "OK" and lab.set_register("rip", LOOP) == "OK"
            for _turn in range(2):
                for place in places:
                    value = int.from_bytes(bytes.fromhex(lab.ask(f"m{DATA:x},8")), "little")
                    assert lab.ask("c") == f"T05{name}:{DATA:x};thread:1;"
                    assert lab.register("rip") == LOOP + place
                    after = int.from_bytes(bytes.fromhex(lab.ask(f"m{DATA:x},8")), "little")
                    assert after == value + (place == 7)
            assert lab.ask(f"z{kind},{DATA:x},8") == "OK"
        # Beside a breakpoint, and while it steps.
        assert lab.ask(f"Z2,{DATA + 12:x},1") == "OK" and lab.ask(f"Z1,{LOOP + 14:x},1") == "OK"
        lab.set_register("rip", LOOP)
        assert lab.ask("c") == "T05thread:1;" and lab.register("rip") == LOOP + 14
        assert lab.ask("s") == STOPPED and lab.register("rip") == LOOP + 15
        assert lab.ask("s") == f"T05watch:{DATA + 12:x};thread:1;" and lab.register("rip") == LOOP + 22
        assert lab.ask("s") == STOPPED and lab.register("rip") == LOOP
        assert lab.ask(f"z2,{DATA + 12:x},1") == "OK" and lab.ask(f"z1,{LOOP + 14:x},1") == "OK"
        lab.tell("c")
        lab.run()
        assert not lab.sent
        assert lab.answer(b"\x03") == INTERRUPTED
        for nonsense in ("Z2,1000,0", "Z2,1000,fffff", "Z2,7fffffffffff,2", "Z2,1000", "Z2,,8"):
            assert lab.ask(nonsense) == "E16"


def test_there_is_room_for_so_many(lab: Lab) -> None:
    for which, most in (("Z0", MOST_BREAKPOINTS), ("Z2", MOST_WATCHPOINTS if seam.corrected else 0)):
        for at in range(most):
            assert lab.ask(f"{which},{DATA + 8 * at:x},8") == "OK"
        if most:
            assert lab.ask(f"{which},{DATA:x},8") == "OK"  # as before
            assert lab.ask(f"{which},{DATA + 8 * most:x},8") == "E1c"
            assert lab.ask(f"z{which[1]},{DATA:x},8") == "OK" and lab.ask(f"{which},{DATA + 8 * most:x},8") == "OK"


def test_an_interrupt_stops_it_and_another_changes_nothing(lab: Lab) -> None:
    lab.tell("vCont;c:1")
    lab.goes_on()
    assert lab.answer(b"\x03") == INTERRUPTED and lab.ask("?") == INTERRUPTED
    where = lab.register("rip"), lab.register("rax")
    lab.server.feed(b"\x03\x03")
    lab.run()
    assert not lab.sent and where == (lab.register("rip"), lab.register("rax")) and where[0] in INSTRUCTIONS


def test_registers(lab: Lab) -> None:
    lab.ask("vCont;s:1")
    every = lab.ask("g")
    assert int.from_bytes(bytes.fromhex(every)[16 * 8 : 17 * 8], "little") == LOOP
    assert lab.set_register("rax", 41) == "OK" and lab.register("rax") == 41
    lab.ask("vCont;s:1")
    assert lab.register("rax") == 42 and lab.register("cs") == 0xE033
    assert lab.ask(f"G{every}") == "OK" and lab.ask("g") == every
    assert lab.set_register("xmm7", 1 << 100, 16) == "OK" and lab.register("xmm7") == 1 << 100
    assert lab.set_register("rip", LOOP + 7) == "OK"
    lab.ask("vCont;s:1")
    assert lab.register("rip") == LOOP
    assert lab.set_register("rip", 0x8000_0000_0000) == lab.set_register("cs", 0xE019, 4) == "E16"
    for wrong in ("p", "pffff", "p-1", "P1", "P1=12", "Pzz=1234567812345678", "G1", "Gxy", "P0=123456781234567z"):
        assert lab.ask(wrong) == "E16", wrong


def test_memory(lab: Lab) -> None:
    assert lab.ask(f"m{CODE:x},b") == LOOPING.hex()
    assert lab.ask(f"M{DATA:x},3:010203") == "OK" and lab.ask(f"m{DATA:x},4") == "01020300"
    assert lab.ask(f"X{DATA + 1:x},4:".encode() + b"}#$*") == "OK" and lab.ask(f"m{DATA:x},5") == "017d23242a"
    assert lab.ask(f"X{DATA:x},0:") == "OK"
    assert lab.ask(f"M{CODE + 0x1FFE:x},4:0a0b0c0d") == "OK"  # over the end of a page
    assert lab.ask(f"m{CODE + 0x1FFE:x},4") == "0a0b0c0d"
    most = lab.ask(f"m{BASE:x},ffffffff")
    assert 0 < len(most) <= PACKET_SIZE
    for nowhere in (0x123, 0x8000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF, 0x7FFF_FFFF_FFFF):
        assert lab.ask(f"m{nowhere:x},1") == lab.ask(f"M{nowhere:x},1:00") == "E0e"
    for wrong in ("m", "m12", "m,", "mg,1", f"M{DATA:x},2:00", f"M{DATA:x},1:0", f"X{DATA:x},5:abcd",
                  f"m1{'0' * 16},1"):  # fmt: skip
        assert lab.ask(wrong) == "E16", wrong


def test_page_tables_can_be_read_and_not_written(lab: Lab) -> None:
    words = bytes.fromhex(lab.ask(f"m{lab.tables:x},1000"))
    assert words == bytes(lab.hypervisor.ram.frame(lab.vcpu.guest_table))
    assert lab.ask(f"M{lab.tables:x},8:{'00' * 8}") == "E0e"
    before = lab.tables - 1
    kept = lab.ask(f"m{before:x},1")
    assert lab.ask(f"M{before:x},2:ffff") == "E0e" and lab.ask(f"m{before:x},1") == kept  # all of it or nothing


def test_reading_marks_nothing(lab: Lab) -> None:
    """Not even what a CPU would: accessed bits."""
    pages = range(BASE, BASE + 0x20_0000, 4096)
    entries = [lab.pte(page) for page in pages]
    for page in pages:
        lab.ask(f"m{page:x},1000")
    assert entries == [lab.pte(page) for page in pages]


def test_code_that_is_written_is_executed(lab: Lab) -> None:
    lab.tell("c")
    lab.goes_on()
    lab.answer(b"\x03")
    assert lab.ask(f"M{LOOP:x},3:48ffc8") == "OK"  # dec rax
    lab.set_register("rip", LOOP)
    lab.set_register("rax", 100)
    lab.ask(f"Z0,{LOOP + 3:x},1")
    lab.ask("c")
    assert lab.register("rax") == 99


def test_a_detached_domain_goes_on(lab: Lab) -> None:
    pcpu = lab.domain.timeline.cpu.pcpu
    lab.ask(f"Z0,{LOOP:x},1")
    assert lab.ask("c") == HIT
    assert lab.ask("D") == "OK" and lab.server.ended
    assert lab.domain.debugger is None and not lab.domain.paused and not lab.vcpu.stepping
    lab.goes_on()
    assert pcpu.engine_stops == (not lab.domain.timeline.virtual)
    lab.server.feed(packet("g"))
    assert not lab.sent[1:]


@pytest.mark.parametrize("packets", ["k", "vKill;1"])
def test_kill_is_the_sessions_end_and_not_the_domains(lab: Lab, packets: str) -> None:
    lab.server.feed(packet(packets))
    assert lab.server.ended and lab.domain.debugger is None and not lab.domain.paused
    lab.goes_on()


def test_a_session_lost_while_it_runs_or_steps(lab: Lab) -> None:
    lab.ask(f"Z0,{LOOP + 0x500:x},1")
    for packets in ("vCont;c", "vCont;r0,ffffffffffffffff:1"):
        lab.tell(packets)
        lab.goes_on()
        lab.server.close()
        assert lab.domain.debugger is None and not lab.domain.paused and not lab.vcpu.stepping
        lab.goes_on()
        lab.attach()


def test_pauses_count(lab: Lab) -> None:
    """Its controller pauses it as well: it runs when neither of the two holds it."""
    lab.guest.control.pausedomain(lab.domain.domid)
    lab.tell("c")
    lab.run()
    assert lab.vcpu.state[RIP] == CODE
    lab.guest.control.unpausedomain(lab.domain.domid)
    lab.goes_on()
    assert lab.answer(b"\x03") == INTERRUPTED


def test_what_becomes_of_the_domain_is_told(make: Made) -> None:
    for code, told in ((POWEROFF, "W00"), (bytes.fromhex("0f0b"), "X06")):
        lab = make(code)
        lab.machine.host.listeners.append(
            lambda guest, what, lab=lab: what == "ended" and lab.server.close(guest.ended.name, guest.ended.status)
        )
        assert lab.ask("c") == told
        assert lab.server.ended and lab.domain.debugger is None


def test_one_that_is_kept_can_be_looked_at(make: Made) -> None:
    lab = make(bytes.fromhex("90 0f0b"))
    lab.guest.config.on_crash = "preserve"
    lab.ask("D")
    assert lab.machine.run(lab.guest, timeout=20)
    lab.attach()
    assert lab.register("rip") == CODE + 1 and lab.ask(f"m{CODE:x},3") == "900f0b"
    assert lab.ask("c") == lab.ask("s") == STOPPED  # it will not move


def test_monitor(lab: Lab) -> None:
    def monitor(typed: str) -> str:
        return bytes.fromhex(lab.ask(f"qRcmd,{typed.encode().hex()}")).decode()

    assert "monitor vcpus" in monitor("help") == monitor("")
    assert re.match(rf"domain {lab.domain.domid}: 16 of \d+ MiB, 1 vCPUs, \w+ clock at", monitor("info"))
    assert f"vCPU 0: stopped, kernel mode, rip {CODE:#x}" in monitor("vcpus")
    assert "Last hypercalls" in monitor("hyper")
    assert monitor("nonsense").startswith("there is no `monitor nonsense`")
    assert lab.ask("qRcmd,zz") == "E16"


def test_acknowledgements(make: Made) -> None:
    lab = make()
    raw: list[bytes] = []
    lab.server.send = raw.append
    lab.server._acknowledges = True
    lab.server.feed(b"$?#3f")
    assert raw == [b"+", packet(STOPPED)]
    lab.server.feed(b"-")
    assert raw[2:] == [packet(STOPPED)]
    lab.server.feed(b"+$?#00")
    assert raw[3:] == [b"-"]


def test_a_vcpu_that_sleeps_is_stepped_when_it_wakes(make: Made) -> None:
    """And whoever does not want to wait for that may interrupt, or leave."""
    lab = make(bytes.fromhex("b81d000000 bf01000000 0f05 90 90 ebfe"))  # SCHEDOP_block; nothing will ever happen for it
    for _ in range(3):
        assert lab.ask("s") == STOPPED
    assert lab.register("rip") == CODE + 12 and "blocked" in bytes.fromhex(lab.ask("qThreadExtraInfo,1")).decode()
    lab.tell("s")
    lab.run()
    assert not lab.sent and lab.answer(b"\x03") == INTERRUPTED and lab.register("rip") == CODE + 12
    lab.tell("s")
    lab.run()
    lab.hypervisor.activity.wake(lab.vcpu)
    assert lab.hypervisor.run_until(lambda: bool(lab.sent), 20)
    assert lab.sent == [STOPPED.encode()] and lab.register("rip") == CODE + 13
    lab.tell("s")
    lab.server.close()
    lab.run()
    assert lab.domain.debugger is None and not lab.vcpu.stepping and not lab.domain.paused


def test_vcpus_are_threads(make: Made) -> None:
    """A breakpoint stops all of them and says whose it was; one can be stepped while the other rests."""
    lab = make(kernel="test-second-vcpu", vcpus=2)
    lab.ask("qSupported:swbreak+")
    names = lab.guest.symbols.by_name
    assert lab.ask("qfThreadInfo") == "m1"  # the other is not up yet
    lab.ask(f"Z0,{names['second_main']:x},1")
    assert lab.ask("vCont;c") == "T05swbreak:;thread:2;"
    assert lab.ask("qfThreadInfo") == "m1,2" and lab.ask("qC") == "QC2"
    lab.ask(f"z0,{names['second_main']:x},1")
    first, second = lab.domain.vcpus
    before = lab.ask("Hg1"), lab.ask("g")
    for _ in range(20):
        assert lab.ask("vCont;s:2") == "T05thread:2;"
    assert first.paused == second.paused == 0  # held only while the other runs
    assert lab.ask("Hg2") == "OK" and lab.register("rip") != names["second_main"]
    assert (lab.ask("Hg1"), lab.ask("g")) == before
    assert lab.ask("vCont;s:1") == "T05thread:1;" and lab.ask("g") != before[1]
    assert lab.ask("vCont;s:1;c") == "T05thread:1;"
    assert lab.ask("vCont;c:7") == "E03"
    lab.ask("D")
    assert lab.machine.run(lab.guest, timeout=30)
    assert lab.machine.result(lab.guest).passed


# Kernels that look closely at flags, frames, traps and modes, and get no events.
CLOSE_LOOKERS = ["user-mode", "single-step", "exceptions", "iret", "trap-gates", "privileged-instructions", "ldt"]


@pytest.mark.parametrize("name", CLOSE_LOOKERS)
def test_a_guest_that_is_stepped_all_the_way_sees_nothing_of_it(make: Made, name: str) -> None:
    """Every instruction from the first to the last, kernel's and user's: it does and says the same.

    (The count of instructions may differ: see machine/debug.py for repeated string instructions.)"""
    plain = make(kernel=f"test-{name}")
    plain.ask("D")
    assert plain.machine.run(plain.guest, timeout=60)
    stepped = make(kernel=f"test-{name}")
    stepped.server.feed(packet("vCont;r0,ffffffffffffffff:1"))
    assert stepped.machine.run(stepped.guest, timeout=120)
    expected, result = plain.machine.result(plain.guest), stepped.machine.result(stepped.guest)
    assert result.passed and result.output == expected.output
    assert result.counters.hypercalls == expected.counters.hypercalls
    assert result.counters.exits == expected.counters.exits
    assert 0 <= expected.counters.ran_ns - result.counters.ran_ns < 100


KNOWN = [
    "?", "g", "G", "p", "P", "m", "M", "X", "Z0,", "Z1,", "z0,", "c", "s", "C05", "S05", "vCont;", "vCont;c",
    "vCont;s", "vCont;r", "H", "Hg", "T", "qThreadExtraInfo,", "qXfer:features:read:target.xml:", "qRcmd,",
    "qSupported:", "q", "v",
]  # fmt: skip
PIECES = [
    "0", "1", "-1", ",", ";", ":", "=", "ffffffffffffffff", f"{LOOP:x}", f"{DATA:x}", "7fffffffffffffff",
    "8000000000000000", "g", "\x00", "p1.1", "10000000000000000", "zz", " ", "4",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_nonsense_does_no_harm(make: Made, seed: int) -> None:
    """Whatever is sent: each packet has an answer or lets the domain run, and it can be debugged afterwards."""
    chance = random.Random(seed)
    lab = make(clock=chance.choice(["virtual", "wall"]))
    for _ in range(400):
        payload = chance.choice(KNOWN) + "".join(chance.choices(PIECES, k=chance.randrange(5)))
        lab.sent.clear()
        lab.server.feed(packet(payload.encode("latin-1")))
        if not lab.sent:
            lab.run(0.001)
            if not lab.sent:
                lab.server.feed(b"\x03")
            assert lab.sent and lab.sent[0][:1] == b"T", payload
        assert len(lab.sent) == 1 and not lab.server.ended, payload
        assert not lab.hypervisor.bugs
        if not lab.domain.runs:
            assert lab.ask("?")[:1] == "T"
            return  # it was sent to where there is nothing, and has crashed: as a guest may
        if lab.vcpu.state[RIP] not in INSTRUCTIONS:
            lab.set_register("rip", LOOP)
    for address in list(lab.server.debugger.breakpoints):
        assert lab.ask(f"z0,{address:x},1") == lab.ask(f"z1,{address:x},1") == "OK"
    lab.set_register("rip", LOOP)
    assert lab.ask("s")[:3] == "T05" and lab.register("rip") == LOOP + 3
