# SPDX-License-Identifier: GPL-2.0-or-later
"""One domain as dom0 knows it: its file, its state, its console and its way to the store.

A Guest is one life of a domain. A restart makes another Guest from the same file, with the same console, so that a
reader of the console sees one session. `assembling` does what `xl create` does, in its order. It runs on the
hypervisor's thread, in steps between which other guests run. `prepare` does what can be done before (reading files,
planning the layout), on any other thread.

Read beside it: tools/libs/light/libxl_create.c, libxl_dom.c.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pvhv.abi.errno import Errno
from pvhv.abi.grant_table import GNTTAB_RESERVED_CONSOLE, GRANT_ENTRY_V1_CODEC, GTF_permit_access
from pvhv.abi.memory import E820_RAM
from pvhv.abi.sched import SCHEDOP_shutdown
from pvhv.abi.xen import HYPERVISOR_sched_op
from pvhv.core.control import Control
from pvhv.core.crash import describe
from pvhv.core.errors import HypercallError
from pvhv.core.grants.view import GrantView
from pvhv.core.sched.worker import Worker
from pvhv.devices.backend import Backend, DataHalf, Nodes
from pvhv.devices.backends import BACKENDS
from pvhv.devices.block.control import BlockBackend
from pvhv.devices.block.disk import Disk
from pvhv.devices.console.console import Console
from pvhv.devices.link import Link
from pvhv.devices.xenstore.daemon import Xenstore
from pvhv.machine.ram import PAGE_SIZE
from pvhv.observe.crash import with_names
from pvhv.observe.symbols import Symbols
from pvhv.toolstack import builder, disks, domain_store, elf, layout, pvh, symbol_files
from pvhv.toolstack import ramdisk as ramdisks
from pvhv.toolstack.bulk import Buffer
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.disks import OpenDisk
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.lifecycle import CRASH_STATUS, WATCHDOG_STATUS, Ending, State, after

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.core.vcpu import VCPU

PAGES_PER_MIB = 256
LIMITS = ("max_grant_frames", "max_maptrack_frames", "max_grant_version")


@dataclass
class Prepared:
    """Everything of a domain that is made before the domain exists."""

    config: DomainConfig
    kernel: elf.Kernel
    plan: layout.Layout | pvh.Plan
    ramdisk: Buffer
    disks: list[OpenDisk]

    def used(self) -> list[Buffer]:
        """The buffers that were read only to build the domain, to be freed once it is built."""
        held = [self.ramdisk]
        self.ramdisk, self.kernel.segments = b"", []
        return held


def prepare(config: DomainConfig, before: Sequence[OpenDisk] = ()) -> Prepared:
    """Read the files of a domain and plan its memory; `before` are the disks of its last life. Any thread. Raises
    ToolstackError."""
    kernel = elf.read(config.kernel)
    ramdisk: Buffer = b"" if config.ramdisk is None else ramdisks.read(config.ramdisk, config.memory)
    if config.type == "hvm":
        plan = pvh.plan(kernel, config.memory, len(ramdisk))
        return Prepared(config, kernel, plan, ramdisk, disks.open_all(config.disks, before))
    if not kernel.paravirtual:
        raise ToolstackError(
            f"{config.kernel} is a kernel for a fully virtualized domain, not for a paravirtual one",
            'say type = "hvm"',
            status=2,
        )
    pages = layout.plan(kernel, config.memory * PAGES_PER_MIB, len(ramdisk))
    return Prepared(config, kernel, pages, ramdisk, disks.open_all(config.disks, before))


class Unwanted(ToolstackError):
    """The domain was destroyed while it was built."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was destroyed while it was being built")


class Guest:
    """A domain and what dom0 keeps beside it. The hypervisor's thread only, but for `name` and `config`."""

    def __init__(
        self, hypervisor: Hypervisor, store: Xenstore, prepared: Prepared, console: Console, handle: str
    ) -> None:
        self.hypervisor = hypervisor
        self.control = Control(hypervisor, hypervisor.dom0)
        self.store = store
        self.config = prepared.config
        self.kernel = prepared.kernel
        self.name = prepared.config.name
        self.handle = handle
        self.console = console
        self.state = State.BUILDING
        self.born = time.monotonic()
        self.lineage: object = object()  # what all lives have in common that began with one `create`
        self.quick_lives = 0  # how many lives in a row, this one included, were hardly lived
        self.preserved = False  # it stopped, and is kept to be looked at
        self.restarts = False  # once it is taken apart, another life follows
        self.dumping = False  # it has stopped, and its core is dumped before anything else happens
        self.stopped_as: Ending | None = None
        self.ended: Ending | None = None  # likewise, once all is known that is to be told of it
        self.report = ""
        self.unnamed = False  # the report, which is to have names
        self.domain: Domain
        self.link: Link | None = None  # dom0's end of the console's ring
        self.backends: list[Backend] = []  # of the devices it finds by xenbus
        self.files = prepared.disks  # of the backends that are disks: by their numbers
        self._idle_hook: Any = None

    @property
    def domid(self) -> int:
        return self.domain.domid

    @property
    def symbols(self) -> Symbols:
        """The kernel's symbols. The first call reads them, which takes long: not on the hypervisor's thread, unless
        they were read before."""
        return symbol_files.names(self.kernel)

    @property
    def stays(self) -> bool:
        """Whether the domain is neither gone nor being destroyed."""
        return self.state not in (State.DYING, State.GONE)

    def transition(self, what: str) -> None:
        """Change to the state that follows. Raises ToolstackError if `what` cannot happen in the present state."""
        self.state = after(self.state, what, self.name)

    # -- birth -----------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Make the domain, which is still empty. Raises ToolstackError."""
        control, config = self.control, self.config
        limits = {name: getattr(config, name) for name in LIMITS}
        try:
            domid = control.createdomain(
                vcpus=config.maxvcpus,
                timeline=self._timeline(),
                max_evtchn_port=config.max_event_channels,
                **{name: limit for name, limit in limits.items() if limit is not None},
            )
        except (HypercallError, MemoryError) as failure:
            raise self._refused(failure) from None
        control.max_mem(domid, config.memory * PAGES_PER_MIB + layout.EXTRA_KIB // layout.KIB_PER_PAGE)
        control.set_memory_map(domid, [(0, config.maxmem << 20, E820_RAM)])  # it may grow to
        self._name_it(domid)
        if ahead := config.time_offset + (time.localtime().tm_gmtoff if config.localtime else 0):
            control.settimeoffset(domid, ahead)

    def _name_it(self, domid: int) -> None:
        self.control.setdomainhandle(domid, uuid.UUID(self.handle))
        self.control.scheduler_putinfo(domid, self.config.cpu_weight)
        self.domain = self.hypervisor.domains[domid]

    def assembling(self, prepared: Prepared) -> Iterator[None]:
        """Fill the domain that `begin` made, in steps, until it is ready to be unpaused.

        Raises ToolstackError, and then undoes what was made. The domain may be destroyed between two steps."""
        try:
            for _step in self._building(prepared):
                yield
                if self.state is not State.BUILDING:
                    raise Unwanted(self.name)
            self.transition("built")
        except (HypercallError, MemoryError) as failure:
            raise self._refused(failure) from None
        finally:
            if self.state is State.BUILDING:
                self.destroy()

    def _refused(self, failure: HypercallError | MemoryError) -> ToolstackError:
        if isinstance(failure, MemoryError):
            return ToolstackError(
                f"{self.name} cannot be: {failure or 'the host has no memory left'}",
                "destroy a domain, or have pvhvd started anew with a higher limit (pvhv daemon stop)",
            )
        if failure.errno == Errno.ENOMEM:
            return ToolstackError(
                f"the machine has no {self.config.memory} MiB left for {self.name}",
                "destroy a domain, or give this one less memory",
            )
        return ToolstackError(
            f"the hypervisor refused {self.name}'s first context: {failure.errno.name}",
            "its kernel file is at odds with itself; `pvhv dmesg` may say more",
        )

    def _timeline(self) -> Any:
        config = self.config
        if config.clock == "wall":
            return self.hypervisor.wall
        # A virtual domain has a timeline to itself unless its file names one to share.
        return self.hypervisor.timeline(config.timeline or f"domain {self.handle}")

    def _building(self, prepared: Prepared) -> Iterator[None]:
        hypervisor, domain, plan = self.hypervisor, self.domain, prepared.plan
        assert isinstance(plan, layout.Layout)
        mfns = yield from self.control.populating(domain.domid, plan.nr_pages)
        pages = builder.Pages(hypervisor.ram, mfns)
        yield from self._in_steps(builder.load(pages, self.kernel, plan, prepared.ramdisk))
        if self.kernel.hypercall_page is not None:
            pfn = (self.kernel.hypercall_page - self.kernel.virt_base) // PAGE_SIZE
            self.control.hypercall_init(domain.domid, mfns[pfn])
        ports = builder.Ports(domain.events.alloc_unbound(0), domain.events.alloc_unbound(0))
        builder.write_start_info(
            pages, plan, ports, domain.shared_info, self.config.cmdline, len(prepared.ramdisk)
        )
        for ref, mfn in builder.grants(pages, plan).items():
            entry = GRANT_ENTRY_V1_CODEC.pack(GTF_permit_access, 0, mfn)
            hypervisor.ram.words[domain.grants.entries.slot(ref)] = int.from_bytes(entry, "little")
        builder.write_shared_info(hypervisor.ram, domain.shared_info)
        # Pinned, as a kernel expects to find it that makes tables of its own and then unpins these.
        yield from self.control.pinning_l4(domain.domid, mfns[plan.tables[4, 0]])
        self.control.setvcpucontext(domain.domid, 0, builder.first_context(pages, self.kernel, plan))
        domain_store.make_nodes(self.store, domain, self.name, self.handle, self.config)
        console_mfn, store_mfn = (mfns[plan.areas[name].pfn] for name in ("console", "xenstore"))
        domain_store.describe_rings(self.store, domain.domid, ports, console_mfn, store_mfn)
        self._connect(ports)
        self._plug_disks()

    def _in_steps(self, work: Iterator[None]) -> Iterator[None]:
        """Do work that comes in small pieces: in each step as many as fit into a step's time."""
        for _piece in work:
            if self.hypervisor.scheduler.step_is_over():
                yield

    def _connect(self, ports: builder.Ports) -> None:
        """Make dom0's ends: map the console's ring by its grant, bind its port, and introduce the domain to the
        store."""
        self.link = link = Link(self.hypervisor.dom0, self.domid, [GNTTAB_RESERVED_CONSOLE], ports.console)
        self.console.virtual = self.config.clock == "virtual"
        self.console.attach(link.page, link.notify)
        link.on_signal(self.console.pump)
        self.store.introduce(self.domid, ports.xenstore)
        if self.console.virtual:
            self._idle_hook = self.console.deliver
            self.domain.timeline.on_idle.append(self._idle_hook)

    def plug(self, kind: str, number: int, data: DataHalf, told: Nodes | None = None) -> Backend:
        """Give the domain a device, which the guest finds by xenbus; `data` is the data half behind it, and `told` what
        else stands in the backend's directory. Raises KeyError for a kind that is not in pvhv.devices.backends."""
        backend = BACKENDS[kind](self.store, self.hypervisor.dom0, self.domid, number, data, told)
        self.backends.append(backend)
        return backend

    def _plug_disks(self) -> None:
        for file in self.files:
            self.plug_disk(file)

    def plug_disk(self, file: OpenDisk) -> Backend:
        """Give the domain a disk, which is one of its `files`."""
        grants, wanted = partial(GrantView, self.hypervisor.dom0, self.domid), file.wanted
        worker = Worker(file.thread, self.hypervisor.scheduler, self.domain, self.config.disk_latency * 1000)
        disk = Disk(
            file.image, grants, worker,
            sector_size=int(wanted.sector_size), discards=wanted.discards, cdrom=wanted.cdrom,
        )  # fmt: skip
        params = file.target if wanted.format == "raw" else f"{wanted.format}:{file.target}"
        return self.plug(BlockBackend.kind, file.number, disk, {"params": params, "dev": wanted.vdev})

    def start(self) -> None:
        """Unpause the domain, which is made paused."""
        self.transition("unpause")
        self.control.unpausedomain(self.domid)

    # -- end -------------------------------------------------------------------------------------------------
    def stopped(self, end: Ending) -> None:
        """The domain has shut down: make its report if it crashed, and detach its console."""
        self.transition("shutdown")
        self.stopped_as = end
        report = self.domain.crash_report
        if report is None and end.status in (CRASH_STATUS, WATCHDOG_STATUS):
            # Its own doing (a panic), or the watchdog's: nobody described it yet.
            reason = "it reported a crash itself" if end.status == CRASH_STATUS else "its watchdog ran out"
            report = describe(self.domain, self._last_caller(), reason)
        if report:
            self.report, self.unnamed = report, True
            if (known := symbol_files.known(self.kernel)) is not None:
                self.name_report(known)
        self.store.shut_down(self.domid)
        self.console.detach()
        for file in self.files:
            file.settle()

    def name_report(self, symbols: Symbols) -> None:
        """Put symbols beside the addresses in the crash report."""
        self.unnamed = False
        self.report = with_names(self.report, symbols, self.kernel.executable, self.kernel.chained)

    def _last_caller(self) -> VCPU:
        """The vCPU that shut the domain down, as far as its last hypercall tells; else one that made a sched_op last
        (as one that sleeps did), else the first."""

        def likely(vcpu: VCPU) -> int:
            number, _after, command, _argument = vcpu.recent[-1] if vcpu.recent else (-1, 0, 0, 0)
            return 0 if number != HYPERVISOR_sched_op else 2 if command == SCHEDOP_shutdown else 1

        return max(self.domain.vcpus, key=likely)

    def disconnect(self) -> None:
        """Release everything dom0 holds of the domain, so that the domain can be destroyed."""
        self.console.detach()
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._idle_hook is not None:
            self.domain.timeline.on_idle.remove(self._idle_hook)
            self._idle_hook = None
        for backend in list(self.backends):
            backend.close()
        for file in self.files:
            file.close()
        domain_store.remove_nodes(self.store, self.domid, self.handle)
        self.store.release(self.domid)

    def destroy(self) -> None:
        """Destroy the domain, in the background; the hypervisor announces when it is gone."""
        self.transition("destroy")
        self.disconnect()
        self.control.destroydomain(self.domid)
