# SPDX-License-Identifier: GPL-2.0-or-later
"""What a control domain may do to others: Xen's domctls and the sysctls beside them.

Domain 0 has no vCPU to make hypercalls with, so these are methods. But they have a calling domain, which must be
privileged; they name domains by id; and they fail with Xen's errors. The toolstack acts on a domain as a whole only
through these methods. Where domain 0 is a peer (ports, grants), it uses pvhv.core.events.channels and
pvhv.core.grants.view.

The rest of the core does not use this file.

`foreign_page` reads another domain's frame. It takes the place of a foreign mapping, as domain 0 has no page tables.

Not modelled: shadow and iommu domctls, cpupools and affinity.

Read beside it: do_domctl and getdomaininfo in xen/common/domctl.c, do_sysctl in xen/common/sysctl.c.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pvhv.abi.arch_x86 import HYPERVISOR_VIRT_START, XEN_LEGACY_MAX_VCPUS
from pvhv.abi.errno import Errno
from pvhv.abi.memory import E820_ENTRY, E820_MAX
from pvhv.abi.version import XENVER, XenCapabilitiesInfo, XenChangesetInfo, XenCompileInfo, XenExtraversion
from pvhv.abi.xen import DOMID_FIRST_RESERVED
from pvhv.core.context import get_context
from pvhv.core.errors import HypercallError, Interrupted, Restart
from pvhv.core.grants.table import DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES, MAPPINGS_PER_FRAME, MAX_VERSION
from pvhv.core.mm.frames import L4
from pvhv.core.privilege import require_privilege
from pvhv.core.sched.runstate import RUNNING
from pvhv.core.traps import hypercall_page
from pvhv.core.traps.dispatch import HANDLERS

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.core.sched.timeline import Timeline
    from pvhv.core.vcpu import VCPU

POPULATED_AT_ONCE = 1024  # frames: some milliseconds where none of them are neighbours

XEN_DOMINF_dying = 1 << 0
XEN_DOMINF_shutdown = 1 << 2
XEN_DOMINF_paused = 1 << 3
XEN_DOMINF_blocked = 1 << 4
XEN_DOMINF_running = 1 << 5


class DomainInfo(NamedTuple):
    """struct xen_domctl_getdomaininfo; `shutdown_code` is None while the domain has not shut down."""

    domid: int
    flags: int
    shutdown_code: int | None
    tot_pages: int
    max_pages: int
    shared_info_frame: int
    cpu_time: int
    nr_online_vcpus: int
    max_vcpu_id: int
    handle: UUID


class VcpuInfo(NamedTuple):
    """struct xen_domctl_getvcpuinfo."""

    online: bool
    blocked: bool
    running: bool
    cpu_time: int


class XenVersion(NamedTuple):
    """The answers of xen_version's commands."""

    major: int
    minor: int
    extra: bytes
    compiler: bytes
    compile_by: bytes
    compile_domain: bytes
    compile_date: bytes
    capabilities: bytes
    changeset: bytes
    virt_start: int


class PhysInfo(NamedTuple):
    """struct xen_sysctl_physinfo, as far as it applies."""

    total_pages: int
    free_pages: int
    cpu_khz: int


class Control:
    """The domctls and sysctls of one calling domain. Every method raises HypercallError(EPERM) without privilege."""

    def __init__(self, hypervisor: Hypervisor, caller: Domain) -> None:
        self.hypervisor = hypervisor
        self.caller = caller

    def find(self, domid: int) -> Domain:
        """The domain a domctl names. Raises HypercallError: ESRCH, EPERM."""
        domain = self.hypervisor.domain_by_id(domid)
        if domain is None:
            raise HypercallError(Errno.ESRCH)
        require_privilege(self.caller)
        return domain

    def other(self, domid: int) -> Domain:
        """Likewise, but not the caller itself. Raises HypercallError: ESRCH, EPERM, EINVAL."""
        domain = self.find(domid)
        if domain is self.caller:
            raise HypercallError(Errno.EINVAL)
        return domain

    # -- making and ending -----------------------------------------------------------------------------------
    def createdomain(
        self,
        domid: int = 0,
        vcpus: int = 1,
        timeline: Timeline[VCPU] | None = None,
        max_evtchn_port: int | None = None,
        max_grant_frames: int = DEFAULT_MAX_FRAMES,
        max_maptrack_frames: int = DEFAULT_MAX_MAPTRACK_FRAMES,
        max_grant_version: int = MAX_VERSION,
    ) -> int:
        """A domain without memory, paused; its id. `domid` 0 asks for a free one.

        Raises HypercallError: EPERM, EEXIST, EINVAL for limits beyond the machine's, ENOMEM.
        """
        require_privilege(self.caller)
        if 0 < domid < DOMID_FIRST_RESERVED and domid in self.hypervisor.domains:
            raise HypercallError(Errno.EEXIST)
        if not 1 <= vcpus <= XEN_LEGACY_MAX_VCPUS or not 1 <= max_grant_frames <= DEFAULT_MAX_FRAMES:
            raise HypercallError(Errno.EINVAL)
        if not 0 <= max_maptrack_frames <= DEFAULT_MAX_MAPTRACK_FRAMES or not 1 <= max_grant_version <= MAX_VERSION:
            raise HypercallError(Errno.EINVAL)
        wanted = domid if 0 < domid < DOMID_FIRST_RESERVED else None
        domain = self.hypervisor.create_domain(wanted, timeline, vcpus)
        domain.events.limit(max_evtchn_port)
        domain.grants.max_frames = max_grant_frames
        domain.grants.max_mappings = max_maptrack_frames * MAPPINGS_PER_FRAME
        domain.grants.max_version = max_grant_version
        return domain.domid

    def hypercall_init(self, domid: int, mfn: int) -> None:
        """Fill a frame of the domain's with hypercall stubs. Raises HypercallError: ESRCH, EPERM, EACCES."""
        hypercall_page.initialise(self.find(domid), mfn)

    def destroydomain(self, domid: int) -> None:
        """Begin to take a domain apart; "destroyed" is announced when it is done."""
        self.hypervisor.destroy(self.other(domid))

    def remote_shutdown(self, domid: int, reason: int) -> None:
        """SCHEDOP_remote_shutdown: stop a domain, with a reason for its record."""
        self.hypervisor.shutdown_domain(self.other(domid), reason & 0xFF)

    def setdomainhandle(self, domid: int, handle: UUID) -> None:
        """Give a domain its UUID."""
        self.find(domid).handle = handle

    # -- letting run -----------------------------------------------------------------------------------------
    def pausedomain(self, domid: int) -> None:
        """Pause a domain; pauses are counted."""
        domain = self.other(domid)
        domain.controller_paused += 1
        self.hypervisor.activity.pause(domain)

    def unpausedomain(self, domid: int) -> None:
        """Undo one pause; a new domain has one. Raises HypercallError(EINVAL) if the domain is not paused."""
        domain = self.find(domid)
        if not domain.controller_paused:
            raise HypercallError(Errno.EINVAL)
        domain.controller_paused -= 1
        self.hypervisor.activity.unpause(domain)

    def resumedomain(self, domid: int) -> None:
        """Let a domain that shut down (to be suspended) go on."""
        domain = self.other(domid)
        if domain.shutdown_code is not None:
            domain.shutdown_code = domain.announced_code = None
            domain.is_shutting_down = False
            self.hypervisor.activity.unpause(domain)

    def scheduler_putinfo(self, domid: int, weight: int = 0, cap: int | None = None) -> None:
        """Set the credit scheduler's weight (0 leaves it unchanged) and cap."""
        domain = self.find(domid)
        domain.weight = weight or domain.weight
        domain.cap = domain.cap if cap is None else cap

    def scheduler_getinfo(self, domid: int) -> tuple[int, int]:
        """The credit scheduler's weight and cap."""
        domain = self.find(domid)
        return domain.weight, domain.cap

    # -- contents --------------------------------------------------------------------------------------------
    def max_mem(self, domid: int, max_pages: int) -> None:
        """Set how many frames a domain may have; it keeps frames it has beyond that."""
        self.find(domid).max_pages = max_pages

    def populate_physmap(self, domid: int, pfns: Sequence[int]) -> array[int]:
        """Allocate frames for these pfns; returns their mfns. Beyond the domain's limit: ENOMEM, and no frame."""
        domain = self.find(domid)
        if domain.tot_pages + len(pfns) > domain.max_pages:
            raise HypercallError(Errno.ENOMEM)
        mfns = self.hypervisor.allocate(domain, len(pfns))
        m2p, first, count = self.hypervisor.m2p, mfns[0] if mfns else 0, len(mfns)
        if mfns == array("Q", range(first, first + count)):  # as a rule; a Python loop over a GiB would be felt
            m2p[first : first + count] = array("Q", pfns)
        else:
            for pfn, mfn in zip(pfns, mfns, strict=True):
                m2p[mfn] = pfn
        return mfns

    def populating(self, domid: int, count: int) -> Generator[None, None, array[int]]:
        """Allocate frames for the pfns in range(count), in steps; returns all mfns. Raises HypercallError."""
        self.find(domid)
        return self._populating(domid, count)

    def _populating(self, domid: int, count: int) -> Generator[None, None, array[int]]:
        mfns = array("Q")
        while len(mfns) < count:
            mfns += self.populate_physmap(domid, range(len(mfns), min(len(mfns) + POPULATED_AT_ONCE, count)))
            if self.hypervisor.scheduler.step_is_over():
                yield
        return mfns

    def set_memory_map(self, domid: int, entries: list[tuple[int, int, int]]) -> None:
        """Set the e820 map, entries of (address, size, type), that XENMEM_memory_map returns."""
        if len(entries) > E820_MAX:
            raise HypercallError(Errno.EINVAL)
        self.find(domid).memory_map = b"".join(E820_ENTRY.pack(*entry) for entry in entries)

    def pin_l4(self, domid: int, mfn: int) -> None:
        """MMUEXT_PIN_L4_TABLE for a domain that does not run yet. EINVAL if the table is invalid, or pinned already."""
        for _step in self.pinning_l4(domid, mfn):
            pass

    def pinning_l4(self, domid: int, mfn: int) -> Iterator[None]:
        """Likewise, in steps of a share of work, because every table below it is validated."""
        return self._pinning(self.other(domid), mfn)

    def _pinning(self, domain: Domain, mfn: int) -> Iterator[None]:
        frames, tables = self.hypervisor.frames, self.hypervisor.pagetables
        if not frames.get_page(mfn, domain.domid):
            raise HypercallError(Errno.EINVAL)
        try:
            while True:
                tables.deferred = domain.vcpus[0].deferred  # who runs between steps has another
                try:
                    tables.settle()
                    frames.get_page_type(mfn, L4, preemptible=True)
                    break
                except (Restart, Interrupted):
                    yield
            if not frames.pin(mfn):
                frames.put_page_type(mfn)
                raise HypercallError(Errno.EINVAL)
        except BaseException:
            frames.put_page(mfn)
            raise

    def setvcpucontext(self, domid: int, vcpu_id: int, context: Any) -> None:
        """Set a vCPU's registers and tables (a vcpu_guest_context). EINVAL in the cases of arch_set_info_guest."""
        domain = self.other(domid)
        vcpu = domain.vcpu(vcpu_id)
        if vcpu is None:
            raise HypercallError(Errno.EINVAL)
        self.hypervisor.activity.pause(domain)
        try:
            self.hypervisor.set_context(vcpu, context)
        finally:
            self.hypervisor.activity.unpause(domain)

    def getvcpucontext(self, domid: int, vcpu_id: int) -> Any:
        """A vCPU's registers and tables (a vcpu_guest_context). EINVAL: no such vCPU; ENODATA: no context yet."""
        domain = self.other(domid)
        vcpu = domain.vcpu(vcpu_id)
        if vcpu is None:
            raise HypercallError(Errno.EINVAL)
        if not vcpu.initialised:
            raise HypercallError(Errno.ENODATA)
        return get_context(vcpu)

    def frames_of(self, domid: int, start: int, end: int) -> list[tuple[int, int]]:
        """(pfn, mfn) of the domain's frames with mfns in range(start, end); pfns are from the M2P."""
        frames, m2p = self.hypervisor.frames, self.hypervisor.m2p
        return [(m2p[mfn], mfn) for mfn in frames.owned_by(self.find(domid).domid, start, min(end, frames.count))]

    def foreign_page(self, domid: int, mfn: int) -> memoryview | None:
        """The bytes of a frame, to be read at once (no reference is held); None if it is not that domain's."""
        hypervisor = self.hypervisor
        domain = self.find(domid)
        if not 0 <= mfn < hypervisor.frames.count or hypervisor.frames.owner[mfn] != domain.domid:
            return None
        return hypervisor.ram.frame(mfn).toreadonly()

    def settimeoffset(self, domid: int, seconds: int) -> None:
        """Set the offset, in seconds, of the domain's wall clock from the machine's."""
        domain = self.find(domid)
        domain.time_offset_seconds = seconds
        self.hypervisor.timekeeper.write_wallclock(domain)

    # -- looking ---------------------------------------------------------------------------------------------
    def getdomaininfo(self, domid: int) -> DomainInfo:
        """Information on the first domain with an id of at least `domid`. EINVAL: no valid id; ESRCH: there is none."""
        if not 0 <= domid < DOMID_FIRST_RESERVED:
            raise HypercallError(Errno.EINVAL)
        found = min((each for each in self.hypervisor.domains if each >= domid), default=None)
        if found is None:
            raise HypercallError(Errno.ESRCH)
        require_privilege(self.caller)
        return describe(self.hypervisor.domains[found])

    def getdomaininfolist(self, first: int = 0) -> list[DomainInfo]:
        """Information on all domains with ids of at least `first`, in order."""
        require_privilege(self.caller)
        domains = self.hypervisor.domains
        return [describe(domains[domid]) for domid in sorted(domains) if domid >= first]

    def getvcpuinfo(self, domid: int, vcpu_id: int) -> VcpuInfo:
        """Information on one vCPU. Raises HypercallError(ESRCH)."""
        domain = self.find(domid)
        vcpu = domain.vcpu(vcpu_id)
        if vcpu is None:
            raise HypercallError(Errno.ESRCH)
        spent = vcpu.runstate.times(domain.timeline.now())[RUNNING]
        return VcpuInfo(not vcpu.down, vcpu.blocked or vcpu.polling, is_running(vcpu), spent)

    def xen_version(self) -> XenVersion:
        """The answers of all commands of xen_version."""
        require_privilege(self.caller)
        extra, built, caps, changeset = XenExtraversion(), XenCompileInfo(), XenCapabilitiesInfo(), XenChangesetInfo()
        caller = SimpleNamespace(domain=self.caller)
        for command, op in (
            (XENVER.extraversion, extra), (XENVER.compile_info, built), (XENVER.capabilities, caps),
            (XENVER.changeset, changeset),
        ):  # fmt: skip
            HANDLERS[command](caller, op)
        version = HANDLERS[XENVER.version](caller, 0) or 0
        return XenVersion(
            version >> 16, version & 0xFFFF, extra.text, built.compiler, built.compile_by,
            built.compile_domain, built.compile_date, caps.text, changeset.text, HYPERVISOR_VIRT_START,
        )  # fmt: skip

    def physinfo(self) -> PhysInfo:
        """Information on the machine."""
        require_privilege(self.caller)
        hypervisor = self.hypervisor
        khz = hypervisor.timekeeper.khz(hypervisor.wall)
        return PhysInfo(hypervisor.ram.frames, hypervisor.frames.free_frames, khz)

    def readconsole(self, clear: bool = False) -> str:
        """The hypervisor's own log."""
        require_privilege(self.caller)
        text = self.hypervisor.console.read()
        if clear:
            self.hypervisor.console.clear()
        return text


def is_running(vcpu: VCPU) -> bool:
    """Whether the vCPU has the pCPU of its timeline, or had it when this question interrupted its slice."""
    turn = vcpu.domain.timeline.turn
    return turn is not None and turn.vcpu is vcpu


def describe(domain: Domain) -> DomainInfo:
    """The answer of getdomaininfo. A domain counts as blocked when all its vCPUs that are up are blocked."""
    online = [vcpu for vcpu in domain.vcpus if not vcpu.down]
    now = domain.timeline.now()
    flags = 0
    if online and all(vcpu.blocked or vcpu.polling for vcpu in online):
        flags |= XEN_DOMINF_blocked
    if any(is_running(vcpu) for vcpu in online):
        flags |= XEN_DOMINF_running
    if domain.dead:
        flags |= XEN_DOMINF_dying
    if domain.shutdown_code is not None:
        flags |= XEN_DOMINF_shutdown
    if domain.controller_paused:
        flags |= XEN_DOMINF_paused
    return DomainInfo(
        domain.domid,
        flags,
        domain.shutdown_code,
        domain.tot_pages,
        domain.max_pages,
        domain.shared_info,
        sum(vcpu.runstate.times(now)[RUNNING] for vcpu in domain.vcpus),
        len(online),
        len(domain.vcpus) - 1,
        domain.handle,
    )
