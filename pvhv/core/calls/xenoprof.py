# SPDX-License-Identifier: GPL-2.0-or-later
"""xenoprof_op: there is nothing to count by, and everything else is for the domain that counts.

All its answers are in the spec; the handler only finds the command.

Read beside it: do_xenoprof_op in xen/common/xenoprof.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pvhv.abi.control import XENOPROF, XENOPROF_OP
from pvhv.abi.errno import Errno
from pvhv.core.errors import HypercallError
from pvhv.core.traps.dispatch import command_row, hypercall

if TYPE_CHECKING:
    from pvhv.core.vcpu import VCPU

ROWS: dict[int, Callable[..., int]] = {command.number: command_row(command) for command in XENOPROF}


@hypercall(XENOPROF_OP)
def xenoprof_op(vcpu: VCPU, op: int, arg: int) -> int:
    """Look up the command: an unknown one is an invalid argument here, not an unknown call."""
    row = ROWS.get(op & 0xFFFF_FFFF)
    if row is None:
        raise HypercallError(Errno.EINVAL)
    return row(vcpu, arg)
