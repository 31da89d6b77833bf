# SPDX-License-Identifier: GPL-2.0-or-later
"""multicall: a list of hypercalls for the price of one entry.

Each entry is read when its turn comes, and its result written before the next is read; one that fails does not stop
the others. Between entries the list may be put aside: then the call continues with what is left. An entry that itself
wants to be continued has its new arguments written into the list first. iret ends the list; events are looked at
once, after it.

Read beside it: xen/common/multicall.c.
"""

from __future__ import annotations

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


@hypercall(MULTICALL)
def multicall(vcpu: VCPU, call_list: int, nr_calls: int) -> int:
    """Make `nr_calls` hypercalls."""
    nr_calls &= 0xFFFF_FFFF
    memory = vcpu.memory
    if not memory.accessible(call_list, nr_calls * ENTRY_SIZE):
        raise HypercallError(Errno.EFAULT)
    hypervisor = vcpu.domain.hypervisor
    by_arity, counts, must_yield = hypervisor.by_arity, vcpu.counts, hypervisor.must_yield
    words = memory.words
    tlb = memory.write_tlb
    address = call_list
    end = call_list + nr_calls * ENTRY_SIZE
    while address < end:
        if must_yield(ENTRY_COST) and address != call_list:
            raise Continue(address, (end - address) // ENTRY_SIZE)
        base = tlb.get(address >> 12)
        if base is None or address & 0xFFF > 0x1000 - ENTRY_SIZE or address & 7:
            number, _, *arguments = memory.read_words(address, 8).tolist()
            slot = 0
        else:
            slot = base + (address & 0xFFF) >> 3
            number, _, *arguments = words[slot : slot + 8].tolist()
        try:
            if number == MULTICALL_NUMBER:
                result = NEG_EINVAL
            elif number >= 64:
                result = NEG_ENOSYS
            else:
                counts[number] += 1
                result = by_arity[number](vcpu, arguments)
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
        if slot and tlb.get(address >> 12) == base:
            words[slot + 1] = result & MASK64
        else:
            memory.write(address + 8, (result & MASK64).to_bytes(8, "little"))
        if number == IRET_NUMBER:
            return result
        address += ENTRY_SIZE
    return 0
