# SPDX-License-Identifier: GPL-2.0-or-later
"""console_io: the hypervisor's console, for kernels that have none of their own yet.

What a guest writes goes to the hypervisor's log line by line, without unprintable characters, marked with the domain.

Read beside it: guest_console_write in xen/drivers/char/console.c.
"""

from __future__ import annotations

from pvhv.abi.cpu import CONSOLE_IO
from pvhv.abi.errno import Errno
from pvhv.abi.xen import CONSOLEIO_write
from pvhv.core.errors import HypercallError
from pvhv.core.traps.dispatch import Continue, hypercall
from pvhv.core.vcpu import VCPU

CHUNK = 128
LINE_LIMIT = 2000


@hypercall(CONSOLE_IO)
def console_io(vcpu: VCPU, cmd: int, count: int, buffer: int) -> int:
    """Write `count` characters; any other command is refused with EPERM."""
    if cmd & 0xFFFF_FFFF != CONSOLEIO_write:
        raise HypercallError(Errno.EPERM)
    count &= 0xFFFF_FFFF
    domain = vcpu.domain
    done = 0
    while done < count:
        if done and domain.hypervisor.must_yield(CHUNK):
            raise Continue(0, count - done, buffer + done)
        step = min(CHUNK, count - done)
        domain.console_buffer += vcpu.memory.read(buffer + done, step)
        done += step
        *lines, rest = domain.console_buffer.split(b"\n")
        if len(rest) > LINE_LIMIT:
            lines.append(rest)
            rest = b""
        domain.console_buffer = rest
        for line in lines:
            domain.hypervisor.console.guest(domain.domid, "".join(chr(c) for c in line if 32 <= c < 127 or c == 9))
    return 0
