# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of domains, by the tables and in a real hypervisor: every ending, every action, and nothing left."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvhv.abi.sched import SCHEDOP_block, SCHEDOP_shutdown
from pvhv.abi.xen import HYPERVISOR_sched_op
from pvhv.testing import Machine
from pvhv.toolstack.config import ACTIONS, DomainConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest, prepare
from pvhv.toolstack.lifecycle import (
    ENDINGS,
    QUICK_RESTARTS,
    REFUSALS,
    TRANSITIONS,
    State,
    action,
    after,
    ending,
    for_one_run,
    why_not_again,
)
from tests.toolstack.recipes import BASE, SPIN, UD2, YIELD_FOREVER, Recipe, shutdown

Maker = Callable[..., Guest]


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made
    # Conservation: with all domains gone, nothing of them is left in dom0 or in the store.
    hypervisor, store = made.hypervisor, made.host.store
    assert list(hypervisor.domains) == [0]
    assert hypervisor.dom0.events.in_use() == []
    assert hypervisor.dom0.grants.views == set()
    assert set(store.domains) == set()
    assert {domid for domid, count in store.tree.owned.items() if count} == {0}
    assert {domid for domid, count in store.accounts.memory.items() if count} == {0}
    assert store.children("/vm") == store.children("/libxl") == ()
    assert (store.children("/local/domain"), store.children("/local/domain/0")) == (("0",), ("domid", "name"))
    assert hypervisor.bugs == []


@pytest.fixture
def create(machine: Machine, tmp_path: Path) -> Maker:
    """create(code, on_crash=…) -> a running Guest."""

    def make(code: bytes, **settings: object) -> Guest:
        kernel = tmp_path / "kernel.elf"
        kernel.write_bytes(Recipe(code=code).build())
        config = DomainConfig(
            **{"name": "guest", "kernel": kernel, "memory": 8, "clock": "virtual", **settings}
        )  # type: ignore[arg-type]
        return machine.host.create(prepare(config))

    return make


def test_a_domain_has_the_limits_of_its_file(create: Maker) -> None:
    guest = create(
        YIELD_FOREVER, max_event_channels=50, max_grant_frames=3, max_maptrack_frames=2, max_grant_version=1
    )
    grants = guest.domain.grants
    assert (grants.max_frames, grants.max_mappings, grants.max_version) == (3, 512, 1)
    assert guest.domain.events.max_port == 50
    other = create(YIELD_FOREVER, name="other").domain
    assert (other.grants.max_frames, other.grants.max_mappings, other.grants.max_version) == (64, 262144, 2)
    assert other.events.max_port == 1023


def until(machine: Machine, said: Callable[[], bool]) -> None:
    assert machine.hypervisor.run_until(said, 10)


def names(machine: Machine) -> list[str]:
    return [f"{guest.name}:{guest.state.value}" for guest in machine.host.guests.values()]


# -- the tables ----------------------------------------------------------------------------------------------
def test_whose_core_is_wanted_gets_it_dumped_in_one_run_too() -> None:
    asked = DomainConfig("x", Path("k"), on_crash="coredump-restart", on_watchdog="coredump-destroy")
    run = for_one_run(asked)
    assert (run.on_crash, run.on_watchdog, run.on_soft_reset) == ("coredump-destroy", "coredump-destroy", "destroy")


def test_every_state_can_be_reached_and_left() -> None:
    reached = {State.BUILDING} | set(TRANSITIONS.values())
    left = {state for state, _what in TRANSITIONS}
    assert reached == set(State)
    assert left == set(State) - {State.GONE}
    assert all((state, what) not in TRANSITIONS for state, what in REFUSALS)


def test_what_has_no_row_is_refused_in_words() -> None:
    with pytest.raises(ToolstackError, match="domain x is dying: it cannot be paused"):
        after(State.DYING, "pause", "x")
    with pytest.raises(ToolstackError, match="domain x is paused already"):
        after(State.PAUSED, "pause", "x")


def test_an_unknown_code_is_a_crash_of_its_own() -> None:
    assert ending(77).name == "shutdown code 77"
    assert {end.status for end in ENDINGS.values()} == {0, 1, 10, 20, 21}


def test_one_run_keeps_only_what_the_file_asks_to_keep() -> None:
    plain = DomainConfig("x", Path("k"), on_reboot="restart", on_crash="preserve")
    assert {getattr(for_one_run(plain), event) for event in ("on_poweroff", "on_reboot", "on_crash")} == {
        "destroy"
    }
    asked = DomainConfig("x", Path("k"), on_crash="preserve", given=["on_crash"])
    assert for_one_run(asked).on_crash == "preserve"


@pytest.mark.parametrize("chosen", ACTIONS)
def test_a_guest_that_hardly_lives_is_kept_after_a_while(chosen: str) -> None:
    config = DomainConfig("x", Path("k"), on_reboot=chosen)
    again = why_not_again(QUICK_RESTARTS - 1, engine_died=False)
    assert again is None and action(config, ENDINGS[1], again).restart == ("restart" in chosen)
    for reason in (why_not_again(QUICK_RESTARTS, engine_died=False), why_not_again(0, engine_died=True)):
        assert reason is not None and not action(config, ENDINGS[1], reason).restart


# -- in a real hypervisor ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "name", "status"),
    [
        (shutdown(0), "poweroff", 0),
        (shutdown(1), "reboot", 10),
        (shutdown(2), "suspend", 1),
        (shutdown(3), "crash", 20),
        (shutdown(4), "watchdog", 21),
        (UD2, "crash", 20),
    ],
)
@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_endings(machine: Machine, create: Maker, code: bytes, name: str, status: int, clock: str) -> None:
    keep = dict.fromkeys(("on_poweroff", "on_reboot", "on_crash", "on_watchdog"), "preserve")
    guest = create(code, clock=clock, **keep)
    assert machine.run(guest)
    assert guest.ended is not None
    assert (guest.ended.name, guest.ended.status) == (name, status)
    assert guest.state is State.SHUT_DOWN and guest.preserved
    letter = {"reboot": "r", "suspend": "s", "crash": "c", "watchdog": "w"}.get(name, "-")
    assert machine.host.describe(guest)["state"] == f"---s{letter}-"
    assert bool(guest.report) == (name in ("crash", "watchdog"))


def test_a_kernel_without_notes_runs(machine: Machine, tmp_path: Path) -> None:
    """What it says in a section __xen_guest will do, as of Mini-OS until Xen 4.5."""
    said = f"GUEST_OS=Mini-OS,XEN_VER=xen-3.0,VIRT_BASE={BASE:#x},ELF_PADDR_OFFSET=0x0,LOADER=generic"
    kernel = tmp_path / "kernel.elf"
    notes = dict.fromkeys(range(19), "absent")
    kernel.write_bytes(Recipe(code=shutdown(0), notes=notes, guest_section=said).build())  # type: ignore[arg-type]
    guest = machine.host.create(prepare(DomainConfig("old", kernel, memory=8, on_poweroff="preserve")))
    assert machine.run(guest)
    assert guest.ended is not None and guest.ended.name == "poweroff"


def test_a_crash_report_says_where(machine: Machine, create: Maker) -> None:
    guest = create(b"\x90" + UD2)
    machine.run(guest)
    assert "unhandled exception: vector 6" in guest.report
    assert "<start+0x1>" in guest.report
    guest = create(shutdown(3), name="other")
    machine.run(guest)
    assert "it reported a crash itself" in guest.report
    assert "sched_op" in guest.report.splitlines()[-1]


def test_a_crash_report_is_of_the_vcpu_that_reported_it(create: Maker) -> None:
    """Not of one that slept then, whose last hypercall was a sched_op as well."""
    guest = create(SPIN, vcpus=3, maxvcpus=3)
    sleeper, other, reporter = guest.domain.vcpus
    assert guest._last_caller() is sleeper
    other.recent.append((HYPERVISOR_sched_op, BASE, SCHEDOP_block, 0))
    assert guest._last_caller() is other
    sleeper.recent.append((HYPERVISOR_sched_op, BASE, SCHEDOP_block, 0))
    reporter.recent.append((HYPERVISOR_sched_op, BASE, SCHEDOP_shutdown, 0))
    assert guest._last_caller() is reporter


def test_destroy_follows_poweroff(machine: Machine, create: Maker) -> None:
    create(shutdown(0))
    until(machine, lambda: not machine.host.guests)


def test_restart_is_another_domain_with_the_same_console(machine: Machine, create: Maker) -> None:
    guest = create(shutdown(1))
    told: list[str] = []
    machine.host.listeners.append(lambda guest, what: told.append(f"{what} {guest.domid}"))
    until(machine, lambda: machine.ended != set())
    last = next(iter(machine.host.guests.values()))
    # Each life but the last one was quick, and followed by another; the last one is kept.
    lives = QUICK_RESTARTS
    assert told == [
        line for life in range(2, lives + 1) for line in (f"restarted {life}", f"gone {life - 1}")
    ] + [f"ended {lives}"]
    assert last.console is guest.console
    assert last.console.closed
    assert names(machine) == ["guest:shut down"]
    assert "restarts too quickly" in machine.hypervisor.console.read()


def test_rename_restart_keeps_the_old_one_beside(machine: Machine, create: Maker) -> None:
    first = create(shutdown(1), on_reboot="rename-restart")
    until(machine, lambda: len(machine.ended) == QUICK_RESTARTS)
    assert names(machine) == [f"guest-{n}:shut down" for n in range(1, QUICK_RESTARTS)] + ["guest:shut down"]
    assert first.name == "guest-1"
    assert machine.host.store.read(f"/local/domain/{first.domid}/name") == b"guest-1"


def test_a_restart_that_cannot_be_is_an_end(machine: Machine, create: Maker) -> None:
    guest = create(SPIN, on_crash="restart")
    guest.config.kernel.unlink()
    machine.hypervisor.crash(guest.domain, "for a test")
    assert machine.run(guest)
    until(machine, lambda: not machine.host.guests)
    assert "guest could not be restarted: cannot read the kernel" in machine.hypervisor.console.read()


def test_destroy_cancels_a_restart(machine: Machine, create: Maker) -> None:
    guest = create(shutdown(1))
    until(machine, lambda: guest.restarts)
    gone = machine.host.destroy(guest)
    until(machine, gone.done)
    until(machine, lambda: not machine.host.guests)
    assert guest in machine.ended


def test_pause_and_unpause(machine: Machine, create: Maker) -> None:
    guest = create(SPIN, clock="wall")
    host = machine.host
    until(machine, lambda: guest.domain.vcpus[0].ran > 0)
    host.pause(guest)
    assert host.describe(guest)["state"] == "--p---"
    machine.hypervisor.run_until(lambda: False, 0.02)
    ran = guest.domain.vcpus[0].ran
    machine.hypervisor.run_until(lambda: False, 0.05)
    assert guest.domain.vcpus[0].ran == ran
    with pytest.raises(ToolstackError, match="paused already"):
        host.pause(guest)
    host.unpause(guest)
    until(machine, lambda: guest.domain.vcpus[0].ran > ran)
    assert host.describe(guest)["state"] == "r-----"


def test_a_guest_that_spins_can_be_destroyed_and_others_live(machine: Machine, create: Maker) -> None:
    spinner = create(SPIN, clock="wall", name="spinner")
    other = create(YIELD_FOREVER, clock="wall", name="other")
    until(machine, lambda: spinner.domain.vcpus[0].ran > 0 and other.domain.vcpus[0].ran > 0)
    gone = machine.host.destroy(spinner)
    until(machine, gone.done)
    ran = other.domain.vcpus[0].ran
    until(machine, lambda: other.domain.vcpus[0].ran > ran)
    assert spinner.ended is not None and spinner.ended.name == "destroyed"


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_what_is_gone_is_forgotten(machine: Machine, create: Maker, clock: str) -> None:
    """At once: nobody has to look for cycles, which takes long where there is much (pvhv.toolstack.garbage)."""
    gc.disable()
    guest = create(shutdown(0), clock=clock)
    remembered = [weakref.ref(thing) for thing in (guest, guest.domain, guest.domain.vcpus[0], guest.console)]
    del guest
    until(machine, lambda: not machine.host.guests)
    create(shutdown(0), clock=clock)  # a pCPU remembers who ran on it last
    until(machine, lambda: not machine.host.guests)
    machine.ended.clear()
    left = [reference() for reference in remembered]
    gc.enable()
    assert left == [None] * 4
    assert len(machine.hypervisor.scheduler.timelines) == 1  # the host's


def test_vcpus_beyond_those_it_starts_with(machine: Machine, create: Maker) -> None:
    guest = create(SPIN, vcpus=2, maxvcpus=4)
    home = f"/local/domain/{guest.domid}/cpu"
    words = [machine.host.store.read(f"{home}/{number}/availability") for number in range(4)]
    assert words == [b"online", b"online", b"offline", b"offline"]
    assert len(guest.domain.vcpus) == 4
    row = machine.host.describe(guest)
    assert (row["vcpus"], row["maxvcpus"]) == (2, 4)


def test_names(machine: Machine, create: Maker) -> None:
    one = create(SPIN)
    host = machine.host
    with pytest.raises(ToolstackError, match="there is a domain guest already"):
        create(SPIN)
    host.rename(one, "first")
    two = create(SPIN)
    assert host.find("first") is host.find(str(one.domid)) is one
    assert host.find("guest") is two
    with pytest.raises(ToolstackError, match="there is a domain first already"):
        host.rename(two, "first")
    with pytest.raises(ToolstackError) as caught:
        host.find("frist")
    assert caught.value.hint == "did you mean first?"
    assert host.store.read(f"/local/domain/{one.domid}/name") == b"first"


def test_uuids(machine: Machine, create: Maker) -> None:
    given = "5f0c9d5e-7f1c-4f3e-9a43-0c3f3c7a1e52"
    one = create(SPIN, name="one", uuid=given)
    assert str(one.domain.handle) == one.handle == given
    with pytest.raises(ToolstackError, match="domain one has the uuid"):
        create(SPIN, name="two", uuid=given)
    by_name = create(SPIN, name="two")
    machine.host.rename(by_name, "three")
    assert create(SPIN, name="two").handle != by_name.handle
    assert machine.host.store.read(f"/vm/{by_name.handle}/name") == b"three"


def test_too_little_machine(machine: Machine, create: Maker) -> None:
    with pytest.raises(ToolstackError, match="the machine has no 600 MiB left"):
        create(SPIN, memory=600, maxmem=600)
    until(machine, lambda: list(machine.hypervisor.domains) == [0])


def test_tables_that_do_not_pass_are_said_in_words(
    machine: Machine, create: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pvhv.toolstack import builder

    original = builder.first_context

    def elsewhere(*arguments: object) -> object:
        context = original(*arguments)  # type: ignore[arg-type]
        context.ctrlreg[3] = 1 << 12
        return context

    monkeypatch.setattr(builder, "first_context", elsewhere)
    with pytest.raises(ToolstackError, match="refused guest's first context: EINVAL"):
        create(SPIN)
    until(machine, lambda: list(machine.hypervisor.domains) == [0])


def test_asking_a_guest_that_does_not_listen(machine: Machine, create: Maker) -> None:
    guest = create(SPIN)
    machine.host.ask(guest, "poweroff")
    machine.hypervisor.run_until(lambda: False, 0.05)
    assert not machine.host.answered(guest)
    machine.host.pause(guest)
    with pytest.raises(ToolstackError, match="is paused: it cannot be asked to poweroff"):
        machine.host.ask(guest, "poweroff")


# -- cores ---------------------------------------------------------------------------------------------------
def core_of(machine: Machine, name: str) -> Path:
    return machine.host.cores / name


@pytest.mark.parametrize("chosen", ["coredump-destroy", "coredump-restart"])
def test_a_core_is_dumped_before_anything_else_follows(
    machine: Machine, create: Maker, tmp_path: Path, chosen: str
) -> None:
    machine.host.cores = tmp_path / "dump"
    guest = create(UD2, on_crash=chosen, name="a/../b", memory=8)
    ended: list[str] = []
    machine.host.listeners.append(lambda who, what: ended.append(f"{what} {core_of(machine, 'a%2F..%2Fb').exists()}"))
    until(machine, lambda: guest.dumping)
    assert guest.state is State.SHUT_DOWN and machine.host.describe(guest)["state"] == "---sc-"
    if chosen == "coredump-destroy":
        until(machine, lambda: not machine.host.guests)
        assert "ended True" in ended and "ended False" not in ended
    else:
        until(machine, lambda: any(what.startswith("restarted") for what in ended))
        [now] = [each for each in machine.host.guests.values() if each.stays]
        machine.host.destroy(now)
        until(machine, lambda: not machine.host.guests)
    core = core_of(machine, "a%2F..%2Fb")
    assert core.stat().st_size > 8 << 20 and core.read_bytes()[:4] == b"\x7fELF"
    assert list(tmp_path.glob("dump/*")) == [core]
    assert f"its core is in {core}, 8 MiB" in machine.hypervisor.console.read()


def test_a_core_that_cannot_be_written_changes_nothing_else(machine: Machine, create: Maker, tmp_path: Path) -> None:
    machine.host.cores = tmp_path / "file"
    machine.host.cores.touch()
    guest = create(UD2, on_crash="coredump-destroy")
    until(machine, lambda: not machine.host.guests)
    assert guest.ended is not None and guest.ended.name == "crash"
    assert "guest: its core could not be dumped:" in machine.hypervisor.console.read()


def test_a_domain_that_is_dumped_may_be_destroyed(machine: Machine, create: Maker, tmp_path: Path) -> None:
    machine.host.cores = tmp_path / "dump"
    guest = create(UD2, on_crash="coredump-restart", memory=64)
    heard: list[str] = []
    machine.host.listeners.append(lambda _who, what: heard.append(what))
    until(machine, lambda: guest.dumping)
    machine.host.destroy(guest)
    until(machine, lambda: not machine.host.guests)
    until(machine, lambda: "could not be dumped" in machine.hypervisor.console.read())
    assert heard == ["ended", "gone"]
    assert not any(tmp_path.glob("dump/*"))


def test_a_soft_reset_ends_a_paravirtual_domain(machine: Machine, create: Maker) -> None:
    """Xen refuses it for one, and xl destroys it then."""
    guest = create(shutdown(5))
    until(machine, lambda: not machine.host.guests)
    assert guest.ended is not None and guest.ended.name == "soft_reset"
    kept = create(shutdown(5), on_soft_reset="preserve")
    until(machine, lambda: kept.ended is not None)
    assert machine.host.describe(kept)["state"] == "---sS-"
