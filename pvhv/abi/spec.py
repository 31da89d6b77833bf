# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about a hypercall: number, arguments, direction, and every error with its reason.

A :class:`Hypercall` is one number of Xen's table.  Many of them carry a first argument that chooses among
:class:`Command` s, kept in a :class:`Commands` namespace so that code reads ``EVTCHNOP.send``.  Specs hold no
behaviour: the dispatcher reads them to copy arguments in and out, the core keys its handlers by them, and
hypercalls.md is printed from them.

Invariant: an error a handler may raise is in the spec of its command (or, for what the dispatcher finds, of
its hypercall), with the reason a guest's author needs.  Errors Xen has and pvhv cannot meet stand under
``unreachable``, with why.

``status`` is IMPLEMENTED, or says why not, and then the call answers -ENOSYS; a ``refusal`` is the one answer
Xen gives an unprivileged caller, which needs no handler either: it comes at once, or once the argument was read
(``reads_first``). Where Xen looks at more than that before it refuses, there is a handler (``refused_by_handler``).

Errors stand in the order in which they are looked for, the argument's EFAULT before all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pvhv.abi.errno import Errno

IMPLEMENTED = "implemented"

Direction = Literal["none", "in", "out", "inout"]
Role = Literal["", "cmd", "arg", "count"]


@dataclass(frozen=True)
class Arg:
    """One register argument.  ``role`` tells the dispatcher which one chooses, points or counts."""

    name: str
    ctype: str
    doc: str = ""
    role: Role = ""


@dataclass(eq=False, kw_only=True)
class Spec:
    """What hypercalls and commands have in common."""

    doc: str = ""
    errors: Mapping[Errno, str] = field(default_factory=dict)
    unreachable: Mapping[Errno, str] = field(default_factory=dict)
    returns: str = "0"
    status: str = IMPLEMENTED
    refusal: Errno | None = None
    reads_first: bool = False
    refused_by_handler: bool = False
    test: str = ""

    @property
    def implemented(self) -> bool:
        """True when a handler must exist: not left out, and not refused without a look."""
        return self.status == IMPLEMENTED and (self.refusal is None or self.refused_by_handler)

    @property
    def answer(self) -> Errno | None:
        """What the dispatcher answers by itself, without a handler; None when there must be one."""
        return None if self.implemented else self.refusal or Errno.ENOSYS


@dataclass(eq=False)
class Command(Spec):
    """One command of a hypercall.

    ``arg`` is the record its argument points to, ``direction`` says who fills it; of an ``inout`` record the
    fields named in ``out`` are the hypervisor's.  A ``batch`` command is given an array of records, handled
    one by one; its per-item answers, in the record's status field, are ``statuses``.
    """

    name: str
    number: int
    arg: Any = None
    direction: Direction = "none"
    out: tuple[str, ...] = ()
    batch: bool = False
    statuses: Mapping[int, str] = field(default_factory=dict)
    prefix: str = field(default="", init=False)

    @property
    def full_name(self) -> str:
        """Xen's name for it, e.g. EVTCHNOP_send."""
        return f"{self.prefix}_{self.name}"

    def __repr__(self) -> str:
        return f"<command {self.full_name}>"


class Commands:
    """A hypercall's commands, as attributes by name and in order of their numbers."""

    def __init__(self, prefix: str, *commands: Command) -> None:
        self._prefix = prefix
        self._by_name = {command.name: command for command in commands}
        self.by_number = {command.number: command for command in sorted(commands, key=lambda c: c.number)}
        if not len(self._by_name) == len(self.by_number) == len(commands):
            raise ValueError(f"{prefix}: two commands with one name or number")
        for command in commands:
            command.prefix = prefix

    def __getattr__(self, name: str) -> Command:
        try:
            # SCHEDOP.yield_: a name Python keeps for itself takes an underscore.
            return self.__dict__["_by_name"][name.removesuffix("_")]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"no command {name}") from None

    def __iter__(self) -> Iterator[Command]:
        return iter(self.by_number.values())

    def __len__(self) -> int:
        return len(self.by_number)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._by_name]


@dataclass(eq=False)
class Hypercall(Spec):
    """One number of the hypercall table.

    ``commands`` is the namespace its ``cmd`` argument chooses from (None when it has no commands).
    ``command_field`` names the record's field that chooses, where the choice is not in a register
    (mmuext_op).
    """

    number: int
    name: str
    args: tuple[Arg, ...] = ()
    commands: Commands | None = None
    arg: Any = None
    direction: Direction = "none"
    out: tuple[str, ...] = ()
    batch: bool = False
    command_field: str = ""
    command_mask: int = 0xFFFF_FFFF

    def index(self, role: Role) -> int | None:
        """The position of the argument with a role, None when there is none."""
        return next((i for i, arg in enumerate(self.args) if arg.role == role), None)

    @property
    def full_name(self) -> str:
        return f"HYPERVISOR_{self.name}"

    @property
    def signature(self) -> str:
        inside = ", ".join(f"{a.ctype}{'' if a.ctype.endswith('*') else ' '}{a.name}" for a in self.args)
        return f"long {self.full_name}({inside or 'void'})"

    def __repr__(self) -> str:
        return f"<hypercall {self.number} {self.name}>"
