# SPDX-License-Identifier: GPL-2.0-or-later
"""The domains of one hypervisor, by name: what `pvhvd` serves and what a test boots a guest with.

Everything here runs on the hypervisor's thread. An operation that takes time (a domain is built and destroyed piece
by piece, its files are read) returns a Future, and nothing here waits. A caller that cancels its Future changes nothing
for others. What guests do by themselves is announced to listeners: "restarted" when a new life began, "ended" when a
guest stopped for good (it may still be kept, to be looked at), "gone" when nothing of it is left.

Read beside it: tools/xl/xl_vmcontrol.c.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pvhv.core.domain import Domain
from pvhv.core.hypervisor import Hypervisor
from pvhv.devices.console.console import Console
from pvhv.devices.console.serial import SerialConsole
from pvhv.devices.xenstore.daemon import Xenstore
from pvhv.observe.symbols import Symbols
from pvhv.toolstack import disks, domain_store, dumping
from pvhv.toolstack.beside import Beside, settle
from pvhv.toolstack.bulk import Buffer, is_large
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.disks import OpenDisk
from pvhv.toolstack.errors import NotThere, ToolstackError
from pvhv.toolstack.full_guest import FullGuest
from pvhv.toolstack.guest import Guest, Prepared, Unwanted, prepare
from pvhv.toolstack.lifecycle import (
    DESTROYED,
    QUICK_LIFE_S,
    Action,
    Ending,
    State,
    action,
    ending,
    why_not_again,
)
from pvhv.toolstack.names import DOMAIN_0, quoted, shown

SHUTDOWN_LETTERS = {"reboot": "r", "suspend": "s", "crash": "c", "watchdog": "w", "soft_reset": "S"}

Listener = Callable[[Guest, str], None]
T = TypeVar("T")
NAMES_WITHIN_S = 30.0
MOST_DOMAINS = 1024  # those that are kept (on_crash = "rename-restart") among them


class Host:
    """Guests by domid, in the order they were made."""

    def __init__(self, hypervisor: Hypervisor, cores: Path = Path("dump")) -> None:
        self.hypervisor = hypervisor
        self.store = Xenstore(hypervisor.dom0, hypervisor.console.log)
        domain_store.describe_domain_0(self.store)
        self.guests: dict[int, Guest] = {}
        self.listeners: list[Listener] = []
        self.beside = Beside()
        self.cores = cores  # where those are dumped that a domain file asks for
        self._going: dict[int, list[Future[None]]] = {}
        hypervisor.on_domain_event(self._domain_event)

    # -- finding ---------------------------------------------------------------------------------------------
    def find(self, who: str) -> Guest:
        """A guest by name or domid. Raises ToolstackError."""
        # One that is being taken apart gives way to its successor of the same name.
        # A number is an id before it is a name.
        guests = sorted(self.guests.values(), key=lambda guest: (not guest.stays, str(guest.domid) != who))
        for guest in guests:
            if guest.name == who or str(guest.domid) == who:
                return guest
        raise NotThere(who, [shown(guest.name) for guest in guests])

    def require_free_name(self, name: str, instead_of: Guest | None = None) -> None:
        """Raises ToolstackError when a domain has that name, or is being restarted under it."""
        if name == DOMAIN_0:
            raise ToolstackError(f"{DOMAIN_0} is the name of domain 0", "give the new domain another name: name=...")
        for guest in self.guests.values():
            if guest.name == name and guest is not instead_of and (guest.stays or guest.restarts):
                raise ToolstackError(
                    f"there is a domain {name} already (id {guest.domid}, {guest.state.value})",
                    f"destroy it (pvhv destroy {quoted(name)}), or give the new one another name: name=...",
                )

    def require_unshared(self, files: Sequence[OpenDisk], instead_of: Guest | None = None) -> None:
        """Check that no domain that runs shares these with whoever gets them, unless neither writes. Raises
        ToolstackError."""
        for other in self.guests.values():
            if other.stays and other.stopped_as is None and other is not instead_of:
                disks.require_unshared(files, other.files, other.name)

    # -- making ----------------------------------------------------------------------------------------------
    def create(self, prepared: Prepared, paused: bool = False, console: Console | None = None) -> Guest:
        """Make a domain in one go, while other guests wait, and start it unless it shall stay `paused`. Raises
        ToolstackError."""
        guest = self._begin(prepared, console)
        for _step in self._assembling(guest, prepared):
            pass
        self._announce(guest, "created")
        if not paused:
            guest.start()
        return guest

    def build(self, prepared: Prepared) -> Future[Guest]:
        """Make a domain while others run; it stays paused. Raises ToolstackError, or the Future does. To cancel the
        Future destroys the domain."""
        guest = self._begin(prepared)
        future: Future[Guest] = Future()

        def build() -> Iterator[None]:
            try:
                for _step in self._assembling(guest, prepared):
                    yield
                    if future.cancelled():
                        self.destroy(guest)
                        return
            except Exception as failure:
                settle(future, failure=failure)
                return
            self._announce(guest, "created")
            if not settle(future, guest):
                self.destroy(guest)

        self.hypervisor.scheduler.in_background(build())
        return future

    def _begin(self, prepared: Prepared, console: Console | None = None, instead_of: Guest | None = None) -> Guest:
        """Make a domain that is still empty, and whose name no other domain has. If that is refused, its disks are
        closed."""
        try:
            return self._begin_open(prepared, console, instead_of)
        except Exception:
            for disk in prepared.disks:
                disk.image.close()  # no thread has work for it yet
            raise

    def _begin_open(self, prepared: Prepared, console: Console | None, instead_of: Guest | None) -> Guest:
        self.require_free_name(prepared.config.name, instead_of)
        if len(self.guests) >= MOST_DOMAINS:
            raise ToolstackError(f"there are {MOST_DOMAINS} domains, the most there may be", "destroy some first")
        handle = self._handle(prepared.config)
        self.require_unshared(prepared.disks, instead_of)
        guest = self._new_guest(prepared, console or self._new_console(prepared.config), handle)
        guest.begin()
        self.guests[guest.domid] = guest
        return guest

    def _assembling(self, guest: Guest, prepared: Prepared) -> Iterator[None]:
        try:
            yield from guest.assembling(prepared)
        except Exception:
            guest.ended = guest.ended or DESTROYED  # it never began
            raise
        finally:
            self._let_go(prepared.used())

    def _handle(self, config: DomainConfig) -> str:
        """A domain's UUID: its file's, or a new one. On a virtual clock that is not random, since guests can see it."""
        taken = {guest.handle: guest.name for guest in self.guests.values() if guest.stays}
        if config.uuid is not None:
            if config.uuid in taken:
                raise ToolstackError(
                    f"domain {taken[config.uuid]} has the uuid {config.uuid} already",
                    "give the new domain another uuid, or leave uuid out: pvhv then chooses one",
                )
            return config.uuid
        if config.clock != "virtual":
            return str(uuid.uuid4())
        made = (str(uuid.uuid5(uuid.NAMESPACE_OID, f"pvhv {config.name} {n}")) for n in range(len(taken) + 1))
        return next(handle for handle in made if handle not in taken)

    def _new_guest(self, prepared: Prepared, console: Console, handle: str) -> Guest:
        kind = FullGuest if prepared.config.type == "hvm" else Guest
        return kind(self.hypervisor, self.store, prepared, console, handle)

    def _new_console(self, config: DomainConfig) -> Console:
        console = SerialConsole() if config.type == "hvm" else Console()
        console.resume = lambda: self._post(console.pump)
        return console

    def _post(self, function: Callable[[], None]) -> None:
        self.hypervisor.post(function)

    # -- what becomes of them --------------------------------------------------------------------------------
    def _domain_event(self, domain: Domain, what: str) -> None:
        guest = self.guests.get(domain.domid)
        if guest is None or guest.domain is not domain:
            return
        if what == "destroyed":
            self._gone(guest)
        elif guest.state in (State.RUNNING, State.PAUSED):
            self._stopped(guest, domain.shutdown_code or 0)

    def _stopped(self, guest: Guest, code: int) -> None:
        guest.stopped(ending(code))
        if not guest.unnamed:
            self._follow(guest)
            return
        # Names take a second to read. Should they take for ever, what there is has to do.
        late = threading.Timer(NAMES_WITHIN_S, self._defer, [lambda: self._follow(guest)])
        late.daemon = True
        late.start()

        def named(symbols: Future[Symbols]) -> None:
            late.cancel()
            guest.name_report(symbols.result())
            self._follow(guest)

        self._then(self.beside.do(lambda: guest.symbols), named)

    def _follow(self, guest: Guest) -> None:
        """Do what a guest's file says follows. The guest has stopped, and its report is complete."""
        if guest.ended is not None or guest.state is not State.SHUT_DOWN:
            return  # somebody was quicker
        end = guest.ended = guest.stopped_as
        assert end is not None
        lived = time.monotonic() - guest.born
        guest.quick_lives = guest.quick_lives + 1 if lived < QUICK_LIFE_S else 0
        not_again = why_not_again(guest.quick_lives, guest.domain.engine_died)
        follows = action(guest.config, end, not_again)
        guest.preserved = not follows.destroy
        if action(guest.config, end).restart and not follows.restart:
            self.hypervisor.console.log(f"{guest.name} is kept as it is and not started again: {not_again}")
        if follows.dump:
            guest.dumping = True
            dumping.dump_to_file(guest, self.cores, lambda: self._do(guest, follows))
        else:
            self._do(guest, follows)

    def _do(self, guest: Guest, follows: Action) -> None:
        """Do what follows a shutdown, unless the guest was destroyed while its core was dumped."""
        guest.dumping = False
        if guest.state is not State.SHUT_DOWN:
            return
        if follows.destroy:
            guest.restarts = follows.restart
            if not follows.restart:
                self._ended(guest)
            guest.destroy()
            return
        self._ended(guest)
        if follows.restart:
            name = guest.name
            self._rename(guest, self._free_name(name))
            self._restart(guest, name, self._new_console(guest.config))

    def _ended(self, guest: Guest) -> None:
        guest.console.close()
        self._announce(guest, "ended")

    def _restart(self, before: Guest, name: str, console: Console) -> None:
        """Make another life from the same configuration; the kernel and ramdisk are read anew."""
        # One that is kept keeps its UUID; its successor gets another.
        handle = before.config.uuid if before.state is State.GONE else None
        config = replace(before.config, name=name, uuid=handle)
        read = self.beside.do(lambda: prepare(config, before.files))
        self._then(read, lambda done: self._rebuild(before, done, console))

    def _rebuild(self, before: Guest, read: Future[Prepared], console: Console) -> None:
        if before.state is State.GONE and not before.restarts:  # it was destroyed meanwhile
            self._forget(before)
            return
        before.restarts = False
        try:
            prepared = read.result()
            guest = self._begin(prepared, console, before)
        except ToolstackError as failure:
            self._not_restarted(before, failure)
            return
        guest.quick_lives, guest.lineage = before.quick_lives, before.lineage
        self.hypervisor.scheduler.in_background(self._rebuilding(before, guest, prepared))

    def _rebuilding(self, before: Guest, guest: Guest, prepared: Prepared) -> Iterator[None]:
        try:
            yield from self._assembling(guest, prepared)
        except Unwanted:
            self._forget(before)
        except ToolstackError as failure:
            self._not_restarted(before, failure)
        else:
            self._announce(guest, "restarted")
            guest.start()
            self._forget(before)

    def _not_restarted(self, before: Guest, failure: ToolstackError) -> None:
        self.hypervisor.console.log(f"{before.config.name} could not be restarted: {failure.message}")
        if before.state is State.GONE:  # one that is kept has been told of
            self._ended(before)
        self._forget(before)

    def _gone(self, guest: Guest) -> None:
        guest.transition("destroyed")
        if guest.restarts:
            self._restart(guest, guest.name, guest.console)
        else:
            self._forget(guest)

    def _forget(self, guest: Guest) -> None:
        """Remove a guest that is gone, and that no other life of the domain will follow."""
        if guest.state is State.GONE:
            del self.guests[guest.domid]
            self._let_go(guest.kernel.used())
            for future in self._going.pop(guest.domid, []):
                settle(future, None)
            self._announce(guest, "gone")

    def _let_go(self, held: list[Buffer]) -> None:
        """Free large buffers on a thread that no guest waits for. The caller drops its own references."""
        if any(is_large(each) for each in held):
            self.beside.do(held.clear)

    def _then(self, future: Future[T], function: Callable[[Future[T]], None]) -> None:
        """Have `function(future)` called on the hypervisor's thread when a Future is done."""
        future.add_done_callback(lambda done: self._defer(lambda: function(done)))

    def _defer(self, function: Callable[[], None]) -> None:
        """Have `function` called on the hypervisor's thread. A mistake in it is kept as the bug it is."""
        self.hypervisor.post(lambda: self.hypervisor.scheduler.defer(function))

    def _announce(self, guest: Guest, what: str) -> None:
        for listener in list(self.listeners):
            listener(guest, what)

    # -- verbs -----------------------------------------------------------------------------------------------
    def destroy(self, guest: Guest, end: Ending = DESTROYED) -> Future[None]:
        """Destroy a domain; the Future is done when it is gone. `end` is how a domain that still ran is said to have
        ended."""
        future: Future[None] = Future()
        self._going.setdefault(guest.domid, []).append(future)
        if guest.ended is None or guest.restarts or guest.dumping:
            guest.restarts = guest.dumping = False
            guest.ended = guest.ended or guest.stopped_as or end
            self._ended(guest)
        if guest.stays:
            guest.destroy()
        return future

    def pause(self, guest: Guest) -> None:
        """Stop a domain's vCPUs until `unpause`. Raises ToolstackError."""
        guest.transition("pause")
        guest.control.pausedomain(guest.domid)

    def unpause(self, guest: Guest) -> None:
        """Let a domain's vCPUs go on. Raises ToolstackError."""
        guest.start()

    def rename(self, guest: Guest, name: str) -> None:
        """Give a domain another name."""
        if name != guest.name:
            self.require_free_name(name)
            self._rename(guest, name)
            self._announce(guest, "renamed")

    def _rename(self, guest: Guest, name: str) -> None:
        guest.name = name
        guest.config.name = name
        domain_store.rename(self.store, guest.domid, guest.handle, name)

    def _free_name(self, name: str) -> str:
        taken = {guest.name for guest in self.guests.values()}
        return next(f"{name}-{n}" for n in range(1, len(taken) + 2) if f"{name}-{n}" not in taken)

    def ask(self, guest: Guest, word: str) -> None:
        """Ask the guest to power off or to reboot, by xenstore. Raises ToolstackError when it does not run, or
        has no xenstore."""
        self._require_listener(guest, f"asked to {word}")
        domain_store.request(self.store, guest.domid, "shutdown", word)

    def sysrq(self, guest: Guest, key: str) -> None:
        """Press a key of the guest kernel's magic SysRq, by xenstore. Raises ToolstackError when it does not run, or
        has no xenstore."""
        self._require_listener(guest, "sent a sysrq")
        domain_store.request(self.store, guest.domid, "sysrq", key)

    def _require_listener(self, guest: Guest, what: str) -> None:
        if guest.state is not State.RUNNING:
            raise ToolstackError(
                f"domain {guest.name} is {guest.state.value}: it cannot be {what}",
                f"pvhv {'unpause' if guest.state is State.PAUSED else 'destroy'} {quoted(guest.name)}",
            )
        if guest.config.type == "hvm":
            raise ToolstackError(
                f"domain {guest.name} is fully virtualized, and has no xenstore: it cannot be {what}",
                "ask it at its console (pvhv console {0}), or end it: pvhv destroy {0}".format(quoted(guest.name)),
            )

    def answered(self, guest: Guest, node: str = "shutdown") -> bool:
        """Whether the guest has taken the request, or does not run any more."""
        return guest.state is not State.RUNNING or domain_store.answered(self.store, guest.domid, node)

    # -- what is told of them --------------------------------------------------------------------------------
    def describe(self, guest: Guest) -> dict[str, Any]:
        """A row of `pvhv list`, in plain values."""
        domain = guest.domain
        living = guest.state in (State.RUNNING, State.PAUSED)
        vcpus = domain.vcpus
        reason = SHUTDOWN_LETTERS.get(guest.stopped_as.name, "-") if guest.stopped_as else "-"
        held = living and domain.debugger is not None and domain.debugger.stopped
        letters = (
            ("r", living and any(vcpu.runnable for vcpu in vcpus)),
            ("b", living and all(vcpu.blocked or vcpu.polling or vcpu.down for vcpu in vcpus)),
            ("p", guest.state in (State.BUILDING, State.PAUSED) or held),
            ("s", guest.stopped_as is not None),
            (reason, reason != "-"),
            ("d", not guest.stays),
        )
        return {
            "name": guest.name,
            "domid": domain.domid,
            "memory": domain.tot_pages * 4096 >> 20,
            "maxmem": guest.config.maxmem,
            "vcpus": max(guest.config.vcpus, sum(not vcpu.down for vcpu in vcpus)),
            "maxvcpus": len(vcpus),
            "state": "".join(letter if on else "-" for letter, on in letters),
            "time": sum(vcpu.ran for vcpu in vcpus) / 1e9,
            "uuid": guest.handle,
            "type": guest.config.type,
            "uptime": round(time.monotonic() - guest.born, 1),
            "shutdown_code": domain.shutdown_code,
            "clock": guest.config.clock,
            "kernel": str(guest.config.kernel),
            "ended": guest.ended.name if guest.ended else None,
        }

    def list(self) -> list[dict[str, Any]]:
        """A row for each domain."""
        return [self.describe(guest) for guest in self.guests.values()]
