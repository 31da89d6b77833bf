# SPDX-License-Identifier: GPL-2.0-or-later
"""multicall: a list of hypercalls in one entry into the hypervisor.

Each entry is read when its turn comes, and its result written before the next is read; one that fails does not stop the
others. Between entries the call may be preempted; it continues with the rest of the list. If an entry itself must be
continued, its new arguments are written into the list first. An iret ends the list. Events are delivered once, after
the list.

Read beside it: xen/common/multicall.c.
"""

from __future__ import annotations

import struct

from pvhv.abi.cpu import MULTICALL
from pvhv.abi.errno import Errno
from pvhv.abi.xen import HYPERVISOR_iret, HYPERVISOR_multicall
from pvhv.core.errors import GuestFault, HypercallError, Restart
from pvhv.core.mm.guestmem import GuestMemory
from pvhv.core.traps.dispatch import NEG_EFAULT, NEG_ENOSYS, Continue, hypercall
from pvhv.core.vcpu import VCPU
from pvhv.machine.x86 import MASK64

ENTRY_SIZE = 64
NEG_EINVAL = -int(Errno.EINVAL)
ENTRY_COST = 2

unpack_entry = struct.Struct("<8Q").unpack_from  # op, result, args[6]
pack_arguments = struct.Struct("<6Q").pack
pack_result = struct.Struct("<Q").pack
pack_result_into = struct.Struct("<Q").pack_into


@hypercall(MULTICALL)
def multicall(vcpu: VCPU, call_list: int, nr_calls: int) -> int:
    """Make `nr_calls` hypercalls."""
    nr_calls &= 0xFFFF_FFFF
    memory = vcpu.memory
    if not memory.accessible(call_list, nr_calls * ENTRY_SIZE):
        raise HypercallError(Errno.EFAULT)
    hypervisor = vcpu.domain.hypervisor
    calls, counts, share = hypervisor.calls_by_arity, vcpu.counts, hypervisor.scheduler.share
    ram, lookup = memory.bytes, memory.write_tlb.get
    end = call_list + nr_calls * ENTRY_SIZE
    for address in range(call_list, end, ENTRY_SIZE):
        share.work_left -= ENTRY_COST
        if share.work_left <= 0 and address != call_list:
            hypervisor.must_yield(0)
            raise Continue(address, (end - address) // ENTRY_SIZE)
        offset = address & 0xFFF
        frame = lookup(address >> 12) if offset <= 0x1000 - ENTRY_SIZE else None
        if frame is None:
            number, _, a1, a2, a3, a4, a5, a6 = unpack_entry(memory.read(address, ENTRY_SIZE))
        else:
            number, _, a1, a2, a3, a4, a5, a6 = unpack_entry(ram, frame + offset)
        try:
            if number == HYPERVISOR_multicall:
                result = NEG_EINVAL
            elif number >= 64:
                result = NEG_ENOSYS
            else:
                counts[number] += 1
                call, arity = calls[number]
                if arity == 2:
                    result = call(vcpu, a1, a2) or 0
                elif arity == 4:
                    result = call(vcpu, a1, a2, a3, a4) or 0
                else:
                    result = call(vcpu, *(a1, a2, a3, a4, a5, a6)[:arity]) or 0
        except HypercallError as error:
            result = -int(error.errno)
        except GuestFault:
            result = NEG_EFAULT
        except (Continue, Restart) as again:
            arguments = [a1, a2, a3, a4, a5, a6]
            if isinstance(again, Continue):
                arguments[: len(again.arguments)] = [value & MASK64 for value in again.arguments]
            memory.write(address + 16, pack_arguments(*arguments))
            raise Continue(address, (end - address) // ENTRY_SIZE) from None
        # Looked up again: the call may have changed what the guest's list is mapped to.
        if frame is not None and frame == lookup(address >> 12):
            pack_result_into(ram, frame + offset + 8, result & MASK64)
        elif number == HYPERVISOR_iret:
            store_if_possible(memory, address + 8, result)
        else:
            memory.write(address + 8, pack_result(result & MASK64))
        if number == HYPERVISOR_iret:
            return result
    return 0


def store_if_possible(memory: GuestMemory, address: int, result: int) -> None:
    """Write the result of an iret; a fault is ignored, because the guest runs elsewhere already."""
    try:
        memory.write(address, pack_result(result & MASK64))
    except GuestFault:
        pass
