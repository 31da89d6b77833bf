# SPDX-License-Identifier: GPL-2.0-or-later
"""The answers to GDB's packets, for one domain.

A vCPU is a thread, numbered from 1; the domain is the one process. GDB decides when the domain runs (all-stop mode): a
packet that lets it go on is answered when the domain stops again; other packets at once. The answer to an unknown
packet is empty, as the protocol says; to one that cannot be done, an error number of Linux's; for memory that does not
exist, E0e. A packet may ask for nonsense, but cannot break anything.

`kill` ends the session, not the domain: the domain goes on, as after `detach`.

The rules are a table of packets by how they begin, the longest first. Read beside it: the appendix "Remote Protocol"
of GDB's manual; tools/debugger/gdbsx/gx/gx_main.c in Xen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pvhv.core.breakpoints import Why
from pvhv.core.debugger import Debugger, Stop
from pvhv.core.errors import GuestFault
from pvhv.core.vcpu import VCPU
from pvhv.machine.debug import READS, WRITES, Watched
from pvhv.machine.paging import is_canonical
from pvhv.observe.gdb import monitor, registers
from pvhv.observe.gdb.packets import PACKET_SIZE, Reader, Sign, packet
from pvhv.observe.gdb.registers import REGISTERS, Refused

FEATURES = (
    f"PacketSize={PACKET_SIZE:x};QStartNoAckMode+;qXfer:features:read+;swbreak+;hwbreak+;vContSupported+"
)
MOST_READ = PACKET_SIZE // 2
MOST_SHOWN = PACKET_SIZE // 2 - 16
SIGINT, SIGABRT, SIGKILL, SIGTRAP = 2, 6, 9, 5
SOFTWARE, HARDWARE = b"0", b"1"
# What a watchpoint looks for, and how GDB is told of it.
WATCHPOINTS = {b"2": (WRITES, "watch"), b"3": (READS, "rwatch"), b"4": (READS | WRITES, "awatch")}
MOST_WATCHED = 1 << 16  # bytes
MOST_BREAKPOINTS, MOST_WATCHPOINTS = 128, 16
READ_AT_ONCE = 512  # bytes
READ_COST, PACKET_COST = 60, 150  # in units of about a microsecond
NO_SUCH, WRONG, FAULT, NO_ROOM = "E03", "E16", "E0e", "E1c"  # ESRCH, EINVAL, EFAULT, ENOSPC

Answer = bytes | str | None  # None: later, or never


class Server:
    """One session. `send` is called with bytes for GDB. The hypervisor's thread only."""

    def __init__(self, make_debugger: Callable[[Callable[[Stop], None]], Debugger], send: Callable[[bytes], None]):
        self.send = send
        self.ended = False  # GDB has left, or was sent away
        self.debugger = make_debugger(self._stopped)
        self._reader = Reader()
        self._acknowledges = True
        self._last = b""  # what was sent last
        self._waits = False  # GDB does, for the domain to stop
        self._selected: VCPU = self.debugger.domain.vcpus[0]  # for registers and memory
        self._told_of: set[str] = set()  # features GDB has
        self._breakpoints: dict[bytes, set[int]] = {SOFTWARE: set(), HARDWARE: set()}
        self._reason = f"T{SIGTRAP:02x}"
        self._packets: list[tuple[bytes, Callable[[bytes], Answer]]] = sorted(
            (
                (b"?", lambda _: self._stop_reply()),
                (b"g", self._read_registers), (b"G", self._write_registers),
                (b"p", self._read_register), (b"P", self._write_register),
                (b"m", self._read_memory), (b"M", self._write_hex), (b"X", self._write_binary),
                (b"Z", self._insert), (b"z", self._remove),
                (b"c", self._continue), (b"C", lambda _: self._run(None)),
                (b"s", self._step), (b"S", lambda _: self._run(self._selected)),
                (b"vCont?", lambda _: "vCont;c;C;s;S;t;r"), (b"vCont;", self._vcont),
                (b"H", self._select), (b"T", self._is_alive),
                (b"qfThreadInfo", lambda _: "m" + ",".join(f"{_id(vcpu):x}" for vcpu in self._threads())),
                (b"qsThreadInfo", lambda _: "l"), (b"qThreadExtraInfo,", self._describe_thread),
                (b"qC", lambda rest: "" if rest else f"QC{_id(self._selected):x}"),
                (b"qAttached", lambda _: "1"), (b"qSymbol:", lambda _: "OK"),
                (b"qSupported", self._supported), (b"QStartNoAckMode", self._without_acknowledgement),
                (b"qXfer:features:read:", self._read_description), (b"qRcmd,", self._monitor),
                (b"D", self._detach), (b"vKill;", self._detach), (b"k", self._kill),
            ),
            key=lambda row: -len(row[0]),
        )  # fmt: skip

    # -- from GDB ----------------------------------------------------------------------------------------------
    def feed(self, data: bytes) -> None:
        """Handle bytes from GDB, in one go."""
        for _piece in self.feeding(data):
            pass

    def feeding(self, data: bytes) -> Iterator[int]:
        """Handle bytes from GDB in pieces, since they may be many, and guests wait; each item is a number of units of
        work."""
        for at in range(0, len(data), READ_AT_ONCE):
            for item in self._reader.feed(data[at : at + READ_AT_ONCE]):
                if self.ended:
                    return
                self._take(item)
                yield PACKET_COST
            yield READ_COST

    def _take(self, item: bytes | Sign) -> None:
        if isinstance(item, bytes):
            if self._acknowledges:
                self.send(b"+")
            answer = self.handle(item)
            if answer is not None:
                self._reply(answer)
        elif item is Sign.INTERRUPT:
            self.debugger.interrupt()
        elif item is Sign.AGAIN and self._acknowledges:
            self.send(self._last)
        elif item is Sign.DAMAGED and self._acknowledges:
            self.send(b"-")

    def handle(self, payload: bytes) -> Answer:
        """The answer to a packet."""
        for begins, handler in self._packets:
            if payload.startswith(begins):
                try:
                    return handler(payload[len(begins) :])
                except (ValueError, IndexError, OverflowError):
                    return WRONG  # not written as it should be
                except Refused:
                    return WRONG
                except GuestFault:
                    return FAULT
        return ""

    def _reply(self, answer: bytes | str) -> None:
        self._last = packet(answer)
        self.send(self._last)

    # -- the end -----------------------------------------------------------------------------------------------
    def close(self, ending: str = "", status: int = 0) -> None:
        """Release the domain. If the domain is gone, tell a waiting GDB how it ended."""
        if self._waits and ending and not self.ended:
            known = {"crash": f"X{SIGABRT:02x}", "destroyed": f"X{SIGKILL:02x}"}
            self._reply(known.get(ending, f"W{status & 0xFF:02x}"))
        self._waits, self.ended = False, True
        self.debugger.detach()

    def _detach(self, _rest: bytes) -> Answer:
        self._reply("OK")
        self.close()
        return None

    def _kill(self, _rest: bytes) -> Answer:
        self.close()
        return None

    # -- who we are --------------------------------------------------------------------------------------------
    def _supported(self, rest: bytes) -> Answer:
        self._told_of = {feature[:-1] for feature in rest[1:].decode("latin-1").split(";") if feature.endswith("+")}
        return FEATURES

    def _without_acknowledgement(self, _rest: bytes) -> Answer:
        self._reply("OK")
        self._acknowledges = False
        return None

    def _read_description(self, rest: bytes) -> Answer:
        annex, _, place = rest.partition(b":")
        if annex != b"target.xml":
            return "E00"
        offset, size = _numbers(place)
        text = registers.description().encode()
        piece = text[offset : offset + min(size, MOST_SHOWN)]
        return (b"l" if offset + len(piece) >= len(text) else b"m") + piece

    def _monitor(self, rest: bytes) -> Answer:
        typed = bytes.fromhex(rest.decode("ascii")).decode("utf-8", "replace")
        return monitor.answer(self.debugger, typed)[:MOST_SHOWN].encode("ascii", "replace").hex() or "OK"

    # -- threads -----------------------------------------------------------------------------------------------
    def _threads(self) -> list[VCPU]:
        """The vCPUs that are up; there is always one."""
        vcpus = self.debugger.domain.vcpus
        return [vcpu for vcpu in vcpus if not vcpu.down] or vcpus[:1]

    def _thread(self, written: bytes) -> VCPU | None:
        """The vCPU of a thread's number; 0 and -1 are any."""
        number = int(written, 16)
        if number <= 0:
            return self._selected
        return self.debugger.domain.vcpu(number - 1)

    def _select(self, rest: bytes) -> Answer:
        vcpu = self._thread(rest[1:])
        if vcpu is None:
            return NO_SUCH
        if rest[:1] == b"g":
            self._selected = vcpu
        return "OK"

    def _is_alive(self, rest: bytes) -> Answer:
        vcpu = self._thread(rest)
        return "OK" if vcpu in self._threads() else NO_SUCH

    def _describe_thread(self, rest: bytes) -> Answer:
        vcpu = self._thread(rest)
        if vcpu is None:
            return NO_SUCH
        mode = "kernel" if vcpu.kernel_mode else "user"
        return f"vCPU {vcpu.vcpu_id}, {mode} mode, {monitor.state(vcpu)}".encode().hex()

    # -- registers and memory ----------------------------------------------------------------------------------
    def _read_registers(self, _rest: bytes) -> Answer:
        return registers.read_all(self._selected).hex()

    def _write_registers(self, rest: bytes) -> Answer:
        registers.write_all(self._selected, bytes.fromhex(rest.decode("ascii")))
        return "OK"

    def _read_register(self, rest: bytes) -> Answer:
        return REGISTERS[_number(rest)].get(registers.image_of(self._selected)).hex()

    def _write_register(self, rest: bytes) -> Answer:
        number, _, written = rest.partition(b"=")
        register, value = REGISTERS[_number(number)], bytes.fromhex(written.decode("ascii"))
        if len(value) != register.bits // 8:
            return WRONG
        register.put(registers.image_of(self._selected), value)
        return "OK"

    def _read_memory(self, rest: bytes) -> Answer:
        address, size = _numbers(rest)
        return self.debugger.read(self._selected, address, min(size, MOST_READ)).hex()

    def _write_hex(self, rest: bytes) -> Answer:
        place, _, written = rest.partition(b":")
        return self._write(place, bytes.fromhex(written.decode("ascii")))

    def _write_binary(self, rest: bytes) -> Answer:
        place, _, data = rest.partition(b":")
        return self._write(place, data)

    def _write(self, place: bytes, data: bytes) -> Answer:
        address, size = _numbers(place)
        if size != len(data):
            return WRONG
        self.debugger.write(self._selected, address, data)
        return "OK"

    # -- breakpoints -------------------------------------------------------------------------------------------
    def _insert(self, rest: bytes) -> Answer:
        return self._change(rest, set.add)

    def _remove(self, rest: bytes) -> Answer:
        return self._change(rest, set.discard)

    def _change(self, rest: bytes, change: Callable[[set[Any], Any], None]) -> Answer:
        kind, (address, size) = rest[:1], _numbers(rest[2:].split(b";")[0])
        if not is_canonical(address):
            return WRONG
        if kind in self._breakpoints:
            there = self.debugger.breakpoints
            if change is set.add and address not in there and len(there) >= MOST_BREAKPOINTS:
                return NO_ROOM
            change(self._breakpoints[kind], address)
            self.debugger.breakpoints = set().union(*self._breakpoints.values())
        elif kind in WATCHPOINTS and self.debugger.can_watch:
            if not 0 < size <= MOST_WATCHED or not is_canonical(address + size - 1):
                return WRONG
            watched, watchpoints = Watched(address, size, WATCHPOINTS[kind][0]), self.debugger.watchpoints
            if change is set.add and watched not in watchpoints and len(watchpoints) >= MOST_WATCHPOINTS:
                return NO_ROOM
            change(watchpoints, watched)
        else:
            return ""  # GDB steps then
        return "OK"

    # -- running -----------------------------------------------------------------------------------------------
    def _continue(self, rest: bytes) -> Answer:
        self._go_on_at(rest)
        return self._run(None)

    def _step(self, rest: bytes) -> Answer:
        self._go_on_at(rest)
        return self._run(self._selected)

    def _go_on_at(self, written: bytes) -> None:
        if written:
            value = _number(written).to_bytes(8, "little")
            REGISTERS[registers.NUMBERS["rip"]].put(registers.image_of(self._selected), value)

    def _vcont(self, rest: bytes) -> Answer:
        """Resume vCPUs (vCont). A vCPU does the first action that names its thread, or no thread."""
        runs: set[VCPU] = set()
        decided: set[VCPU] = set()
        steps: VCPU | None = None
        within = range(0)
        for each in rest.split(b";"):
            action, _, written = each.partition(b":")
            if action[:1] not in (b"c", b"C", b"s", b"S", b"r", b"t"):
                return WRONG
            named = self._thread(written) if written and int(written, 16) > 0 else None
            if written and int(written, 16) > 0 and named is None:
                return NO_SUCH
            for vcpu in {named} if named is not None else set(self.debugger.domain.vcpus) - decided:
                if vcpu in decided:
                    continue
                decided.add(vcpu)
                if action[:1] != b"t":
                    runs.add(vcpu)
                if action[:1] in (b"s", b"S", b"r") and (vcpu is named or vcpu is self._selected):
                    steps = vcpu
                    within = range(*_numbers(action[1:])) if action[:1] == b"r" else range(0)
        return self._run(steps, runs, within)

    def _run(self, steps: VCPU | None, runs: set[VCPU] | None = None, within: range = range(0)) -> Answer:
        if not self.debugger.domain.runs:
            return self._stop_reply()  # it is kept to be looked at, and nothing will move it
        self._waits = True
        self.debugger.resume(self.debugger.domain.vcpus if runs is None else runs, steps, within)
        return None

    def _stopped(self, stop: Stop) -> None:
        """The domain stopped: send GDB the answer that it waits for."""
        self._selected = stop.vcpu
        self._reason = f"T{SIGINT if stop.why is Why.INTERRUPT else SIGTRAP:02x}"
        if stop.why is Why.BREAKPOINT:
            address = int.from_bytes(REGISTERS[registers.NUMBERS["rip"]].get(registers.image_of(stop.vcpu)), "little")
            kind = "swbreak" if address in self._breakpoints[SOFTWARE] else "hwbreak"
            self._reason += f"{kind}:;" if kind in self._told_of else ""
        elif stop.reached is not None:
            kind = next(name for accesses, name in WATCHPOINTS.values() if accesses == stop.reached.accesses)
            self._reason += f"{kind}:{stop.reached.address:x};"
        if self._waits:
            self._waits = False
            self._reply(self._stop_reply())

    def _stop_reply(self) -> str:
        return f"{self._reason}thread:{_id(self._selected):x};"


def _id(vcpu: VCPU) -> int:
    return vcpu.vcpu_id + 1


def _number(written: bytes) -> int:
    """A hexadecimal number: digits only, 64 bits at most."""
    if not written or len(written) > 16 or not all(byte in b"0123456789abcdefABCDEF" for byte in written):
        raise ValueError
    return int(written, 16)


def _numbers(written: bytes) -> tuple[int, int]:
    """Two such numbers, with a comma between."""
    first, _, second = written.partition(b",")
    return _number(first), _number(second)
