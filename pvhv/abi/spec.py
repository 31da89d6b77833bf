# SPDX-License-Identifier: GPL-2.0-or-later
"""The specification of a hypercall: number, arguments, direction, and every error with its reason.

A :class:`Hypercall` is one number of Xen's table.  Many of them have a first argument that chooses among
:class:`Command` s, kept in a :class:`Commands` namespace so that code reads ``EVTCHNOP.send``.  Specs hold no
behaviour: the dispatcher reads them to copy arguments in and out, the core keys its handlers by them, and hypercalls.md
is printed from them.

Invariant: an error a handler may raise is in the spec of its command (or, for what the dispatcher finds, of its
hypercall), with the reason a guest's author needs.  Errors that exist in Xen but cannot occur in pvhv are in
``unreachable``, with the reason.

``status`` is IMPLEMENTED, or the reason why not; then the call answers -ENOSYS. A ``refusal`` is the only answer Xen
gives an unprivileged caller. It needs no handler: it is given at once, or after the argument was read
(``reads_first``). If Xen checks more before it refuses, there is a handler (``refused_by_handler``).

Errors are listed in the order in which Xen checks for them; the argument's EFAULT is before all others.
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
    """One register argument. ``role`` tells the dispatcher what it is: the command, the pointer, or the count."""

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
        """True when a handler must exist: the status is IMPLEMENTED, and there is no refusal without further checks."""
        return self.status == IMPLEMENTED and (self.refusal is None or self.refused_by_handler)

    @property
    def answer(self) -> Errno | None:
        """The error that the dispatcher answers without a handler; None when there must be a handler."""
        return None if self.implemented else self.refusal or Errno.ENOSYS


@dataclass(eq=False)
class Command(Spec):
    """One command of a hypercall.

    ``arg`` is the record its argument points to; ``direction`` says who fills it. In an ``inout`` record the hypervisor
    writes the fields named in ``out``. A ``batch`` command takes an array of records, handled one by one; ``statuses``
    are the answers for an item, in the record's status field.
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
        """Xen's name for the command, e.g. EVTCHNOP_send."""
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

    ``commands`` is the namespace its ``cmd`` argument chooses from (None when it has no commands). ``command_field``
    names the record's field that chooses, if the command is not in a register (mmuext_op).
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
        """The position of the argument with this role; None when there is none."""
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
