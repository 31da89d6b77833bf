# SPDX-License-Identifier: GPL-2.0-or-later
"""The time that guests see: TSC, clock pages, wall-clock time.

On the wall clock a guest's TSC is the pCPU's own; the clock page is renewed from time to time, and the guest's time
never goes back. On a virtual timeline the TSC is the timeline's time in nanoseconds.

Read beside it: xen/arch/x86/time.c (update_vcpu_system_time, update_domain_wallclock_time).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.core.errors import GuestFault
from pvhv.core.sched.pvclock import TIME_OFFSET, Clock, encode, scale_of
from pvhv.core.traps.cpuid import Tsc
from pvhv.machine.clock import NS
from pvhv.machine.ram import Ram

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.sched.timeline import Timeline
    from pvhv.core.vcpu import VCPU

RENEW_NS = 500_000_000
VIRTUAL_KHZ = 1_000_000
READINGS, CLOSE_NS = 10, 3_000
WC_OFFSET = 0xC00  # of wc_version, wc_sec, wc_nsec in struct shared_info; wc_sec_hi follows


class Timekeeper:
    """Clock pages of all vCPUs."""

    def __init__(self, ram: Ram) -> None:
        self.ram = ram.bytes
        self._clocks: dict[VCPU, Clock] = {}
        self._owed: set[VCPU] = set()  # whose secondary copy could not be written yet
        self._khz = 0

    def khz(self, timeline: Timeline[VCPU]) -> int:
        """Frequency, in kHz, of the TSC that guests of a timeline read."""
        if timeline.virtual:
            return VIRTUAL_KHZ
        if not self._khz:
            self._khz = timeline.cpu.pcpu.tsc_khz
        return self._khz

    def tsc(self, timeline: Timeline[VCPU]) -> int:
        """The current value of the TSC that guests of a timeline read."""
        return timeline.now() if timeline.virtual else timeline.cpu.pcpu.read_tsc()

    def tsc_kind(self, domain: Domain) -> Tsc:
        """The TSC of a domain: its frequency and scale, and whether reading it traps."""
        khz = self.khz(domain.timeline)
        return Tsc(khz, scale_of(khz), domain.timeline.virtual)

    def update(self, vcpu: VCPU, force: bool = False) -> None:
        """Renew a vCPU's clock page if it is due, or with `force`. (A fully virtualized guest has none.)"""
        if vcpu.domain.hvm is not None:
            return
        timeline = vcpu.domain.timeline
        known = self._clocks.get(vcpu)
        if known is not None and not force and (timeline.virtual or timeline.now() - known.system_time < RENEW_NS):
            if vcpu in self._owed:
                self._write_secondary(vcpu, known)
            return
        scale = scale_of(self.khz(timeline))
        tsc, now = self._together(timeline)
        if known is not None:
            now = max(now, known.at(tsc))
        clock = self._clocks[vcpu] = Clock(tsc, now, scale)
        self._write(vcpu, clock)

    def show_at_least(self, vcpu: VCPU, time: int) -> None:
        """A timer that the guest set for `time` expires: by the guest's own clock too. That clock goes by the TSC,
        ours by the host's, and they may have come apart by some microseconds. (Xen's own time goes by the TSC.)"""
        known = self._clocks.get(vcpu)
        timeline = vcpu.domain.timeline
        if known is not None and not timeline.virtual and known.at(self.tsc(timeline)) < time:
            self.update(vcpu, force=True)

    def _together(self, timeline: Timeline[VCPU]) -> tuple[int, int]:
        """(TSC, system time), read close together: a delay between the two readings would be a step of the clock."""
        best = (1 << 63, 0, 0)
        for _attempt in range(READINGS):
            before = timeline.now()
            tsc = self.tsc(timeline)
            apart = timeline.now() - before
            best = min(best, (apart, tsc, before + apart // 2))
            if apart <= CLOSE_NS:
                break
        return best[1:]

    def forget(self, vcpu: VCPU) -> None:
        """The vCPU is being destroyed: forget its clock."""
        self._clocks.pop(vcpu, None)
        self._owed.discard(vcpu)

    def _write(self, vcpu: VCPU, clock: Clock) -> None:
        ram = self.ram
        at = vcpu.vcpu_info + TIME_OFFSET
        version = (int.from_bytes(ram[at : at + 4], "little") & ~1) + 2
        ram[at : at + 32] = encode(version & 0xFFFF_FFFF, clock, stable=False)
        if vcpu.time_guest:
            self._owed.add(vcpu)
            self._write_secondary(vcpu, clock)

    def _write_secondary(self, vcpu: VCPU, clock: Clock) -> None:
        """Write the copy at a guest address. If the vCPU's tables do not map it now, `update` tries again later."""
        if vcpu.domain.timeline.cpu.loaded is not vcpu:
            return
        memory, at = vcpu.memory, vcpu.time_guest
        try:
            version = (int.from_bytes(memory.read(at, 4), "little") & ~1) + 2
            memory.write(at, encode(version & 0xFFFF_FFFF, clock, stable=False))
        except GuestFault:
            return
        self._owed.discard(vcpu)

    def write_wallclock(self, domain: Domain) -> None:
        """Write the wall-clock time at system time zero into shared_info: 64 bits of seconds, negative before 1970."""
        epoch = domain.timeline.wallclock() + domain.time_offset_seconds * NS
        seconds, ns = divmod(epoch, NS)
        ram = self.ram
        at = (domain.shared_info << 12) + WC_OFFSET
        version = (int.from_bytes(ram[at : at + 4], "little") & ~1) + 2
        words = (version & 0xFFFF_FFFF, seconds & 0xFFFF_FFFF, ns, seconds >> 32 & 0xFFFF_FFFF)
        ram[at : at + 16] = b"".join(word.to_bytes(4, "little") for word in words)
