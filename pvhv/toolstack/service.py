# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs a client may ask for, as coroutines: each posts what it has to do to the hypervisor's thread and
waits.

`handlers` of an instance maps names to methods; arguments and answers are plain values (pvhv.toolstack.rpc).
`domain` is a domain's name, or its id as text. Work that another thread can do (reading a kernel) is done there, so
that guests go on meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import pvhv
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.sched.runstate import NAMES
from pvhv.core.sched.timeline import VirtualTimeline
from pvhv.machine import engine, seam
from pvhv.observe import counters
from pvhv.observe.trace import Recorder
from pvhv.toolstack import names, peers, plugging, resizing
from pvhv.toolstack.beside import await_or_undo
from pvhv.toolstack.block_access import BlockAccess
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.debugging import DebugAccess
from pvhv.toolstack.dump_access import DumpAccess
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.follow import Follower
from pvhv.toolstack.guest import Guest, prepare
from pvhv.toolstack.host import Host
from pvhv.toolstack.lifecycle import OUTLIVED, State, for_one_run
from pvhv.toolstack.looking import LookAccess
from pvhv.toolstack.names import quoted
from pvhv.toolstack.server import Call, Handler, Session
from pvhv.toolstack.store_access import StoreAccess
from pvhv.toolstack.tracing import Tracing, wanted_of
from pvhv.toolstack.waiting import WaitAccess

T = TypeVar("T")
Guests = list[Guest]
Rows = list[dict[str, Any]]
Words = Sequence[str]
ANSWER_WITHIN_S = 5.0
POLL_S = 0.02
TOGETHER = 16  # domains that are looked at in one go


class Service:
    """One hypervisor's verbs. `stop` ends the process."""

    def __init__(
        self, hypervisor: Hypervisor, host: Host, fingerprint: str, stop: Callable[[], None]
    ) -> None:
        self.hypervisor = hypervisor
        self.host = host
        self.fingerprint = fingerprint
        self.stop = stop
        self.stopping = False
        self.creating = 0
        self.started = time.time()
        self.recorder = Recorder(hypervisor)
        self.handlers: dict[str, Handler] = {
            "hello": self.hello,
            "create": self.create,
            "attach": self.attach,
            "input": self.input,
            "list": self.list,
            "destroy": self.destroy,
            "shutdown": self.shutdown,
            "sysrq": self.sysrq,
            "pause": self.pause,
            "unpause": self.unpause,
            "rename": self.rename,
            "vcpu_set": self.vcpu_set,
            "mem_set": self.mem_set,
            "mem_max": self.mem_max,
            "domain": self.domain,
            "info": self.info,
            "dmesg": self.dmesg,
            "vcpus": self.vcpus,
            "counters": self.counters,
            "report": self.report,
            "trace": self.trace,
            "summary": self.summary,
            "limits": self.limits,
            "stop": self.stop_everything,
            **StoreAccess(hypervisor, host.store).handlers,
            **DebugAccess(host).handlers,
            **DumpAccess(host).handlers,
            **LookAccess(host).handlers,
            **WaitAccess(host).handlers,
            **BlockAccess(host).handlers,
        }

    async def post(self, function: Callable[[], T]) -> T:
        """Have `function` called on the hypervisor's thread, and wait for what it returns."""
        return await asyncio.wrap_future(self.hypervisor.post(function))

    async def beside(self, work: Callable[[], T]) -> T:
        """Have `work` called on a thread that no guest waits for, and wait for what it returns."""
        return await asyncio.wrap_future(self.host.beside.do(work))

    async def post_for(self, make: Callable[[], T], undo: Callable[[T], object]) -> T:
        """Likewise for a call that makes something. If the client goes while it waits, `undo` is called for what was
        made."""
        return await await_or_undo(self.hypervisor.post(make), lambda made: self.hypervisor.post(lambda: undo(made)))

    # -- connections -----------------------------------------------------------------------------------------
    async def hello(
        self, call: Call, fingerprint: str = "", nonce: str = "", proof: str = ""
    ) -> dict[str, Any]:
        """The greeting. It tells a client whether we run its code, and proves that we know the token. (The client's
        proof was checked before.)"""
        if self.stopping:
            raise ConnectionError
        token = call.session.server.token
        call.session.same_code = fingerprint == self.fingerprint
        return {
            "version": pvhv.__version__,
            "pid": os.getpid(),
            "same_code": call.session.same_code,
            "domains": len(self.host.guests),
            "warning": engine.uncorrected(),
            "proof": "" if token is None else peers.proof(token, "server", nonce),
        }

    async def limits(self, call: Call) -> list[dict[str, Any]]:
        """The bounds of what can grow: see pvhv.toolstack.limits."""
        from pvhv.toolstack import limits  # which reads every room's

        return limits.plain()

    def _needed(self, asking: Session) -> bool:
        """Whether we are still needed: by a client of our code, or by one that is having a domain made."""
        others = (each for each in asking.server.sessions.values() if each is not None and each is not asking)
        return self.creating > 0 or any(other.same_code for other in others)

    async def stop_everything(self, call: Call, unneeded: bool = False) -> bool:
        """Destroy every domain and end the process; with `unneeded`, only if there is no domain and nobody needs us.
        Returns whether the process ends."""
        if unneeded:
            if self._needed(call.session) or await self.post(lambda: bool(self.host.guests)):
                return False
            if self._needed(call.session):  # meanwhile
                return False
        self.stopping = True
        futures = await self.post(
            lambda: [self.host.destroy(guest) for guest in list(self.host.guests.values())]
        )
        await asyncio.gather(*map(asyncio.wrap_future, futures))
        self.stop()
        return True

    # -- making, and being at a console ----------------------------------------------------------------------
    async def create(
        self,
        call: Call,
        config: dict[str, Any],
        paused: bool = False,
        attach: bool = False,
        one_run: bool = False,
        typed: bytes = b"",
        lifetime: float | None = None,
    ) -> dict[str, Any]:
        """Make a domain. With `attach`, go on as `attach` does; with `one_run`, its first end is the end.

        Items of the answer say what is being done ("stage"), and that the domain is made ("created"). If the client
        goes before it was told that, the domain is destroyed. After `lifetime` seconds the domain is destroyed,
        restarted or not.
        """
        if self.stopping:
            raise ToolstackError("pvhvd is being stopped", "the same command starts a new one in a moment")
        self.creating += 1
        try:
            guest = await self._new(call, config, one_run)
        finally:
            self.creating -= 1
        asyncio_loop = asyncio.get_running_loop()

        follower: Follower | None = None

        def begin() -> None:
            nonlocal follower
            timeline = guest.domain.timeline
            if isinstance(timeline, VirtualTimeline):
                # Somebody may sit at this console: sleep as long as the guest thinks it does.
                timeline.paced = not one_run
            if typed:
                guest.console.type_ahead(typed)
            follower = Follower(self.host, guest, asyncio_loop, whole_run=one_run) if attach else None
            if not paused and guest.state is State.PAUSED:  # nobody has it otherwise already
                guest.start()

        def undo() -> None:
            if follower is not None:
                follower.close()
            if self.host.guests.get(guest.domid) is guest:
                self.host.destroy(guest)

        made = {"name": guest.name, "domid": guest.domid}
        try:
            await self.post(begin)
            if lifetime is not None:
                outlived = partial(self._outlived, guest.lineage, attach)
                asyncio_loop.call_later(lifetime, self.hypervisor.post, outlived)
            await call.item({"created": made})
        except (asyncio.CancelledError, ConnectionError):
            self.hypervisor.post(undo)  # nobody heard that it is there, so nobody wants it
            raise
        return made if follower is None else await self._deliver(call, follower)

    async def _new(self, call: Call, config: dict[str, Any], one_run: bool) -> Guest:
        """Make a domain, paused, while others run. If the client goes meanwhile, the domain is destroyed."""
        wanted = DomainConfig.from_wire(config)
        if one_run:
            wanted = for_one_run(wanted)
        await self.post(lambda: self.host.require_free_name(wanted.name))
        files = " and ".join(file.name for file in (wanted.kernel, wanted.ramdisk) if file)
        await call.item({"stage": f"{wanted.name}: reading {files}"})
        prepared = await self.beside(partial(prepare, wanted))
        await call.item({"stage": f"{wanted.name}: building {wanted.memory} MiB, their contents and page tables"})
        building = await self.post_for(lambda: self.host.build(prepared), self._not_wanted)
        return await await_or_undo(building, lambda _guest: self.hypervisor.post(lambda: self._not_wanted(building)))

    def _not_wanted(self, building: Future[Guest]) -> None:
        if not building.cancel() and not building.exception():  # it is built already
            self.host.destroy(building.result())

    def _outlived(self, lineage: object, spares_kept: bool) -> None:
        """The lifetime of a domain is over: destroy it. With `spares_kept`, a domain that ended and is kept stays."""
        for life in list(self.host.guests.values()):
            if life.lineage is lineage and not (life.preserved and spares_kept):
                self.hypervisor.console.log(f"{life.name} had its time")
                self.host.destroy(life, OUTLIVED)

    async def attach(self, call: Call, domain: str) -> dict[str, Any]:
        """Follow a console from its first byte."""
        loop = asyncio.get_running_loop()
        follower = await self.post_for(
            lambda: Follower(self.host, self.host.find(domain), loop, whole_run=False), Follower.close
        )
        return await self._deliver(call, follower)

    async def _deliver(self, call: Call, follower: Follower) -> dict[str, Any]:
        ongoing = call.session.ongoing
        ongoing[call.number] = follower
        try:
            return await follower.deliver(call)
        finally:
            del ongoing[call.number]
            self.hypervisor.post(follower.close)

    async def input(self, call: Call, attached: int, data: bytes) -> None:
        """Type bytes into the console that call number `attached` of this session follows. Returns when all are
        taken."""
        session = call.session
        while attached not in session.ongoing and attached in session.tasks:
            await asyncio.sleep(POLL_S)  # it is being attached
        follower = session.ongoing.get(attached)
        while data and follower is not None and not follower.ended:
            taken = await self.post(partial(follower.guest.console.feed, data))
            data = data[taken:]
            if data:
                await asyncio.sleep(POLL_S)

    # -- verbs of a domain -----------------------------------------------------------------------------------
    async def destroy(self, call: Call, domain: str) -> None:
        """Destroy a domain, and wait until it is gone."""
        gone = await self.post(lambda: self.host.destroy(self.host.find(domain)))
        await asyncio.wrap_future(gone)

    async def shutdown(self, call: Call, domain: str, word: str = "poweroff", wait: bool = False) -> None:
        """Ask a guest to power off or to reboot; with `wait`, wait until it has done so."""
        guest = await self.post(lambda: self.host.find(domain))
        await self.post(lambda: self.host.ask(guest, word))
        if not await self._noticed(guest, "shutdown"):
            raise ToolstackError(
                f"{guest.name} took no notice of being asked to {word} yet (it does not watch control/shutdown)",
                "a Linux that is still booting does so once its driver is loaded; "
                f"pvhv destroy {quoted(guest.name)} ends one without asking",
            )
        while wait and guest.ended is None:
            await asyncio.sleep(POLL_S)

    async def sysrq(self, call: Call, domain: str, key: str) -> None:
        """Press a key of a guest kernel's magic SysRq."""
        guest = await self.post(lambda: self.host.find(domain))
        await self.post(lambda: self.host.sysrq(guest, key))
        if not await self._noticed(guest, "sysrq"):
            raise ToolstackError(
                f"{guest.name} took no notice of the key yet (it does not watch control/sysrq)",
                "a Linux that is still booting does so once its driver is loaded; another kernel may have none",
            )

    async def _noticed(self, guest: Guest, node: str) -> bool:
        """Whether a guest takes the request in a node of `control` within some seconds."""
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while not await self.post(lambda: self.host.answered(guest, node)):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def pause(self, call: Call, domain: str) -> None:
        """Stop a domain's vCPUs."""
        await self.post(lambda: self.host.pause(self.host.find(domain)))

    async def unpause(self, call: Call, domain: str) -> None:
        """Let a domain's vCPUs go on."""
        await self.post(lambda: self.host.unpause(self.host.find(domain)))

    async def rename(self, call: Call, domain: str, name: str) -> None:
        """Give a domain another name."""
        names.check(name)
        await self.post(lambda: self.host.rename(self.host.find(domain), name))

    async def vcpu_set(self, call: Call, domain: str, count: int) -> None:
        """Set how many of its vCPUs a domain should use."""
        await self.post(lambda: resizing.set_vcpus(self.host.find(domain), count))

    async def mem_set(self, call: Call, domain: str, kib: int) -> None:
        """Set how many KiB of memory a domain should have."""
        await self.post(lambda: resizing.set_memory(self.host.find(domain), kib))

    async def mem_max(self, call: Call, domain: str, kib: int) -> None:
        """Set how many KiB of memory a domain may have at most."""
        await self.post(lambda: resizing.set_most_memory(self.host.find(domain), kib))

    # -- looking ---------------------------------------------------------------------------------------------
    async def list(self, call: Call) -> Any:
        """A row for every domain."""
        return await self._rows(lambda guest: [self.host.describe(guest)])

    async def _rows(self, rows_of: Callable[[Guest], Rows], domain: str | None = None) -> Rows:
        """Send the rows of every domain, or of one. They are made for some domains at a time, since there may be
        hundreds."""

        def find() -> Guests:
            return [*self.host.guests.values()] if domain is None else [self.host.find(domain)]

        guests = await self.post(find)
        rows: Rows = []
        for at in range(0, len(guests), TOGETHER):
            rows += await self.post(partial(self._some_rows, rows_of, guests[at : at + TOGETHER]))
        return rows

    def _some_rows(self, rows_of: Callable[[Guest], Rows], some: Guests) -> Rows:
        return [row for guest in some if self.host.guests.get(guest.domid) is guest for row in rows_of(guest)]

    async def domain(self, call: Call, domain: str) -> Any:
        """One domain's row."""
        return await self.post(lambda: self.host.describe(self.host.find(domain)))

    async def report(self, call: Call, domain: str) -> str:
        """The crash report of a domain that crashed and is kept."""
        guest = await self.post(lambda: self.host.find(domain))
        while guest.stopped_as is not None and guest.ended is None:
            await asyncio.sleep(POLL_S)
        return guest.report

    async def trace(
        self,
        call: Call,
        domain: str,
        kinds: Words = (),
        only: Words = (),
        vcpus: Words = (),
        syscalls: Words = (),
        count: bool = False,
        everything: bool = False,
    ) -> dict[str, Any]:
        """Follow what a domain does, until it ends; with `count`, sum it up."""
        loop = asyncio.get_running_loop()
        looked_at = await self.post(lambda: self.host.find(domain))
        await self.beside(lambda: looked_at.symbols)

        def begin() -> Tracing:
            guest = self.host.find(domain)
            wanted = wanted_of(guest, kinds, only, vcpus, syscalls, copies=not count, everything=everything)
            return Tracing(self.host, self.recorder, guest, loop, wanted, count)

        tracing = await self.post_for(begin, Tracing.close)
        ongoing = call.session.ongoing
        ongoing[call.number] = tracing
        try:
            await call.item(tracing.about)
            return await tracing.deliver(call)
        finally:
            del ongoing[call.number]
            self.hypervisor.post(tracing.close)

    async def summary(self, call: Call, trace: int) -> dict[str, Any] | None:
        """End the trace that is call number `trace` of this session. Returns its summary."""
        tracing = call.session.ongoing.get(trace)
        if not isinstance(tracing, Tracing):
            return None

        def end() -> dict[str, Any] | None:
            tracing.close()
            return tracing.summary()

        return await self.post(end)

    async def info(self, call: Call) -> dict[str, Any]:
        """Facts about the machine and the hypervisor, by name."""
        hypervisor = self.hypervisor
        frames = hypervisor.frames
        return {
            "host": platform.node(),
            "release": platform.release(),
            "machine": "x86_64",
            "nr_cpus": 1,
            "total_memory": frames.count >> 8,
            "free_memory": frames.free_frames >> 8,
            "xen_major": 4,
            "xen_minor": 17,
            "xen_extra": f".0-pvhv {pvhv.__version__}",
            "xen_caps": "xen-3.0-x86_64",
            "xen_pagesize": 4096,
            "virt_start": "0xffff800000000000",
            "python": platform.python_version(),
            "engine": engine.uncorrected() or f"{engine.description()}, build {seam.build_id()}",
            "domains": len(self.host.guests),
            "pvhvd_pid": os.getpid(),
            "pvhvd_uptime": round(time.time() - self.started, 1),
            "bugs_met": hypervisor.bugs_met,
        }

    async def dmesg(self, call: Call, clear: bool = False) -> str:
        """The hypervisor's own log."""

        def read() -> str:
            text = self.hypervisor.console.read()
            if clear:
                self.hypervisor.console.clear()
            return text

        return await self.post(read)

    async def vcpus(self, call: Call, domain: str | None = None) -> Any:
        """A row for every vCPU."""

        def rows_of(guest: Guest) -> Rows:
            return [
                {
                    "name": guest.name,
                    "domid": guest.domid,
                    "vcpu": vcpu.vcpu_id,
                    "cpu": None if vcpu.down else 0,
                    "state": NAMES[vcpu.runstate.state],
                    "time": vcpu.ran / 1e9,
                }
                for vcpu in guest.domain.vcpus
            ]

        return await self._rows(rows_of, domain)

    async def counters(self, call: Call, domain: str | None = None) -> Any:
        """A row for every domain, with the counts of what it has cost so far."""

        def rows_of(guest: Guest) -> Rows:
            disks = plugging.counts(guest)
            return [{**self.host.describe(guest), **counters.read(guest.domain).plain(), "disks": disks}]

        return await self._rows(rows_of, domain)
