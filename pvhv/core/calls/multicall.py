# SPDX-License-Identifier: GPL-2.0-or-later
"""multicall: a list of hypercalls for the price of one entry.

Each entry is read when its turn comes, and its result written before the next is read; one that fails does not stop
the others. Between entries the list may be put aside: then the call continues with what is left. An entry that itself
wants to be continued has its new arguments written into the list first. iret ends the list; events are looked at
once, after it.

Read beside it: xen/common/multicall.c.
"""

from __future__ import annotations

import struct

from pvhv.abi.cpu import MULTICALL
from pvhv.abi.errno import Errno
from pvhv.core.dispatch import MASK64, NEG_EFAULT, NEG_ENOSYS, Continue, hypercall
from pvhv.core.errors import GuestFault, HypercallError, Restart
from pvhv.core.vcpu import VCPU

ENTRY_SIZE = 64
MULTICALL_NUMBER = 13
IRET_NUMBER = 23
NEG_EINVAL = -int(Errno.EINVAL)
ENTRY_COST = 2

unpack_entry = struct.Struct("<8Q").unpack_from  # op, result, args[6]
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
    ram_bytes, tlb = memory.bytes, memory.write_tlb
    address = call_list
    end = call_list + nr_calls * ENTRY_SIZE
    while address < end:
        share.work_left -= ENTRY_COST
        if share.work_left <= 0 and address != call_list:
            hypervisor.must_yield(0)
            raise Continue(address, (end - address) // ENTRY_SIZE)
        frame = tlb.get(address >> 12)
        offset = address & 0xFFF
        if frame is None or offset > 0x1000 - ENTRY_SIZE:
            number, _, *arguments = unpack_entry(memory.read(address, ENTRY_SIZE))
        else:
            number, _, *arguments = unpack_entry(ram_bytes, frame + offset)
        try:
            if number == MULTICALL_NUMBER:
                result = NEG_EINVAL
            elif number >= 64:
                result = NEG_ENOSYS
            else:
                counts[number] += 1
                call, arity = calls[number]
                if arity == 2:
                    result = call(vcpu, arguments[0], arguments[1]) or 0
                elif arity == 4:
                    result = call(vcpu, arguments[0], arguments[1], arguments[2], arguments[3]) or 0
                else:
                    result = call(vcpu, *arguments[:arity]) or 0
        except HypercallError as error:
            result = -int(error.errno)
        except GuestFault:
            result = NEG_EFAULT
        except (Continue, Restart) as again:
            if isinstance(again, Continue):
                for index, value in enumerate(again.arguments):
                    arguments[index] = value & MASK64
            memory.write(address + 16, b"".join(value.to_bytes(8, "little") for value in arguments))
            raise Continue(address, (end - address) // ENTRY_SIZE) from None
        # Looked up again: the call may have changed what the guest's list is mapped to.
        frame = tlb.get(address + 8 >> 12)
        if frame is None or address + 8 & 0xFFF > 0x1000 - 8:
            memory.write(address + 8, pack_result(result & MASK64))
        else:
            pack_result_into(ram_bytes, frame + (address + 8 & 0xFFF), result & MASK64)
        if number == IRET_NUMBER:
            return result
        address += ENTRY_SIZE
    return 0
