# SPDX-License-Identifier: GPL-2.0-or-later
"""A system call is followed from its SYSCALL to its return, through handlers, context switches and other vCPUs."""

from __future__ import annotations

from collections import Counter

from pvhv.abi.xen import HYPERVISOR_iret, HYPERVISOR_mmu_update, HYPERVISOR_stack_switch
from pvhv.observe.following import Following
from pvhv.observe.record import AMD64, I386, HypercallRecord, Landed, Record, SystemCall
from pvhv.observe.syscall_names import KERNELS
from pvhv.observe.trace import Recorder
from pvhv.observe.wanted import EVERYTHING, Wanted
from pvhv.testing import Machine

ONE, TWO = 0x1000, 0x2000  # kernel stacks of two tasks
CODE = 0x400000
READ, WRITE, EXIT = 0, 1, 60
ANY = Wanted(syscalls=frozenset(), endless=frozenset({(AMD64, EXIT)}))


class Story:
    """Records made up, one a nanosecond, and what becomes of them."""

    def __init__(self, wanted: Wanted = ANY) -> None:
        self.told: list[Record] = []
        self.following = Following(wanted, self.told.append)
        self.time = 0

    def happens(
        self, kind: str, *data: object, stack: int = ONE, vcpu: int = 0, kernel: bool = True, rip: int = 0
    ) -> None:
        self.time += 1
        self.following.take(Record(self.time, 1, vcpu, kind, rip, kernel, data, 0, stack))

    def enters(self, number: int, stack: int = ONE, vcpu: int = 0) -> None:
        self.happens("syscall", number, (1, 2, 3, 4, 5, 6), AMD64, stack=stack, vcpu=vcpu, kernel=False, rip=CODE)

    def asks(self, number: int, stack: int = ONE, after: int = 0, vcpu: int = 0, **more: object) -> None:
        call = HypercallRecord(number, (), None, 0, None, stack=after or stack)._replace(**more)  # type: ignore[arg-type]
        self.happens("hypercall", call, stack=stack, vcpu=vcpu)

    def leaves(self, stack: int = ONE, rip: int = CODE + 2, rax: int = 0, vcpu: int = 0) -> None:
        self.asks(HYPERVISOR_iret, stack, vcpu=vcpu, landed=Landed(rip, rax), result=None)

    @property
    def kinds(self) -> list[tuple[int, str, int]]:
        return [(record.call, record.kind, record.depth) for record in self.told]

    @property
    def ends(self) -> list[SystemCall]:
        return [record.data[0] for record in self.told if record.kind == "return"]


def test_what_lies_between_syscall_and_return_belongs_to_it() -> None:
    story = Story()
    story.asks(HYPERVISOR_mmu_update)  # nobody's
    story.enters(WRITE)
    story.asks(HYPERVISOR_mmu_update)
    story.leaves(rax=7)
    story.happens("fault", 14, 6, 0x5000, "bounced", kernel=False)  # of user code: nobody's either
    assert story.kinds == [(1, "syscall", 0), (1, "hypercall", 1), (1, "hypercall", 1), (1, "return", 0)]
    (end,) = story.ends
    assert (end.number, end.abi, end.result, end.how, end.began, end.away) == (WRITE, AMD64, 7, "returned", 2, 0)
    assert end.exits == (("syscall", "", 1), ("hypercall", "mmu_update", 1), ("hypercall", "iret", 1))


def test_an_error_is_a_negative_result() -> None:
    story = Story()
    story.enters(READ)
    story.leaves(rax=(1 << 64) - 9)
    assert story.ends[0].result == -9


def test_only_those_that_were_asked_for() -> None:
    story = Story(Wanted(syscalls=frozenset({(AMD64, WRITE)})))
    for number in (READ, WRITE):
        story.enters(number)
        story.asks(HYPERVISOR_mmu_update)
        story.leaves()
    assert [end.number for end in story.ends] == [WRITE] and len(story.told) == 4


def test_handlers_are_one_level_deeper_until_their_iret() -> None:
    story = Story()
    story.enters(READ)
    story.happens("upcall")
    story.asks(HYPERVISOR_mmu_update)
    story.happens("fault", 14, 2, 0x5000, "bounced")
    story.asks(HYPERVISOR_iret, result=None)
    story.happens("fault", 14, 2, 0x5000, "handled")  # by the hypervisor: nothing to come back from
    story.asks(HYPERVISOR_iret, result=None)
    story.leaves()
    assert [depth for _call, kind, depth in story.kinds if kind != "return"] == [0, 1, 2, 2, 3, 2, 2, 1]
    assert ("fault", "page_fault", 2) in story.ends[0].exits


def test_another_tasks_doing_is_its_own() -> None:
    """Two system calls interleave on one vCPU; each has what it did, and the time it was away."""
    story = Story()
    story.enters(READ, ONE)
    story.asks(HYPERVISOR_stack_switch, ONE, after=TWO)  # at 2
    story.leaves(TWO)  # the other goes on in user mode, out of a call that nobody saw begin
    story.enters(WRITE, TWO)
    story.asks(HYPERVISOR_mmu_update, TWO)
    story.asks(HYPERVISOR_stack_switch, TWO, after=ONE)  # at 6
    story.leaves(ONE)
    assert [(record.call, record.kind) for record in story.told] == [
        (1, "syscall"), (1, "hypercall"), (1, "switch"),
        (2, "syscall"), (2, "hypercall"), (2, "hypercall"), (2, "switch"),
        (1, "switch"), (1, "hypercall"), (1, "return"),
    ]  # fmt: skip
    assert [record.data for record in story.told if record.kind == "switch"] == [("out",), ("out",), ("back",)]
    assert (story.ends[0].number, story.ends[0].away) == (READ, 4)


def test_it_goes_on_where_its_stack_is_on_another_vcpu() -> None:
    story = Story()
    story.enters(READ, ONE, vcpu=0)
    story.asks(HYPERVISOR_stack_switch, ONE, after=TWO, vcpu=0)
    story.asks(HYPERVISOR_stack_switch, 0x3000, after=ONE, vcpu=1)
    story.asks(HYPERVISOR_mmu_update, ONE, vcpu=1)
    story.leaves(ONE, vcpu=1)
    assert [record.vcpu for record in story.told] == [0, 0, 0, 1, 1, 1, 1]
    assert story.ends[0].how == "returned"


def test_how_it_ends() -> None:
    for rip, how in ((CODE + 2, "returned"), (CODE, "restarts"), (0x7777, "elsewhere")):
        story = Story()
        story.enters(READ)
        story.leaves(rip=rip, rax=5)
        assert story.ends[0].how == how
        assert story.ends[0].result == (5 if how == "returned" else None)


def test_one_that_never_returns_is_over_when_it_is_switched_out() -> None:
    """Its stack will be another task's, whose doing is not the dead one's."""
    story = Story()
    story.enters(EXIT)
    story.asks(HYPERVISOR_stack_switch, ONE, after=TWO)
    story.asks(HYPERVISOR_stack_switch, TWO, after=ONE)
    story.leaves(ONE)
    assert [end.how for end in story.ends] == ["unfinished"] and story.told[-1].kind == "return"


def test_what_is_under_way_at_the_end_is_told() -> None:
    story = Story()
    story.enters(READ)
    story.following.finish(9, 1)
    assert story.ends[0].how == "unfinished" and story.following.open == {}


def test_a_stack_that_two_tasks_share_is_believed_once() -> None:
    story = Story()
    story.enters(READ)
    story.enters(WRITE)  # without a return: in a kernel with one stack for all
    story.leaves()
    assert [(end.number, end.how) for end in story.ends] == [(READ, "lost"), (WRITE, "returned")]


def test_a_32_bit_programs_software_interrupt() -> None:
    story = Story()
    story.happens("int", 0x80, 4, kernel=False, rip=CODE)
    story.leaves(rax=3)
    assert (story.ends[0].abi, story.ends[0].number, story.ends[0].result) == (I386, 4, 3)
    assert KERNELS["linux"].name(I386, 4) == "write (i386)"


def test_an_event_is_of_the_call_that_sent_it() -> None:
    story = Story()
    story.enters(WRITE)
    story.happens("event", 3, 5, (4, 0, 0, 0, 0))
    story.happens("event", 3, 5, (4, 0, 0, 0, 0), stack=0)  # a timer's
    story.leaves()
    assert [kind for _call, kind, _depth in story.kinds].count("event") == 1


def test_the_teaching_kernel() -> None:
    """Every system call that begins ends, and all exits of the guest's kernel are a call's or nobody's, none twice."""
    table = KERNELS["guest_kernel"]
    calls: list[Record] = []
    everything: list[Record] = []
    with Machine() as machine:
        guest = machine.create("guest-pv", stdin="echo a | cat | wc\nsleep 1\nexit\n", paused=True)
        recorder = Recorder(machine.hypervisor)
        recorder.start(guest.domain, calls.append, Wanted(syscalls=table.named(["any"]), endless=table.endless))
        recorder.start(guest.domain, everything.append, EVERYTHING)
        guest.start()
        assert machine.run(guest)
        recorder.stop(guest.domain, calls.append)
    begun = [record for record in calls if record.kind == "syscall"]
    ends = [record for record in calls if record.kind == "return"]
    assert Counter(record.call for record in begun) == Counter(record.call for record in ends)
    assert len(begun) == sum(record.kind == "syscall" for record in everything) > 50
    told = [record._replace(call=0, depth=0) for record in calls if record.kind not in ("switch", "return")]
    assert Counter(map(repr, told)) <= Counter(map(repr, everything))
    how = {table.name(AMD64, end.data[0].number): end.data[0].how for end in ends}
    assert how["exec"] == "elsewhere" and how["exit"] == "unfinished" == how["shutdown"]
    assert how["read"] == how["write"] == how["fork"] == "returned"
    assert "lost" not in {end.data[0].how for end in ends}
    (slept,) = [end for end in ends if table.name(AMD64, end.data[0].number) == "sleep"]
    assert slept.time - slept.data[0].began >= 10**9
    assert any(end.data[0].away for end in ends if table.name(AMD64, end.data[0].number) == "wait")
