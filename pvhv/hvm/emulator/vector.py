# SPDX-License-Identifier: GPL-2.0-or-later
"""SSE moves between memory and XMM registers, as compilers clear and copy memory with them.

Read beside it: memory.py; AMD's manual volume 4.

Not modelled: MMX registers, and every SSE instruction that computes.
"""

from __future__ import annotations

from typing import Final

from pvhv.hvm.cpu.memory import GeneralProtection
from pvhv.hvm.emulator.context import Context, Unknown, handles
from pvhv.hvm.emulator.operands import XMM, XMM0

ALIGNED: Final = frozenset({"movaps", "movapd", "movdqa", "movntps", "movntpd", "movntdq", "movntdqa"})
HIGH: Final = frozenset({"movhps", "movhpd"})
SIZES: Final = {"movss": 4, "movd": 4, "movsd": 8, "movq": 8, "movlps": 8, "movlpd": 8, "movhps": 8, "movhpd": 8}


@handles("movaps", "movapd", "movdqa", "movups", "movupd", "movdqu", "movntps", "movntpd", "movntdq", "movss", "movd",
         "movq", "movlps", "movlpd", "movhps", "movhpd")  # fmt: skip
def move_vector(context: Context) -> None:
    name, of, state = context.instruction.name, context.iced, context.state
    size = SIZES.get(name, 16)
    if context.is_memory(0):
        address = context.address(size)
        if name in ALIGNED and address & 15:
            raise GeneralProtection
        if of.op_register(1) not in XMM:
            raise Unknown(context.instruction)
        at = XMM0 + 8 * XMM[of.op_register(1)] + (1 if name in HIGH else 0)
        value = state[at] | state[at + 1] << 64
        context.store(address, size, value)
        return
    register = of.op_register(0)
    if register not in XMM or not context.is_memory(1):
        raise Unknown(context.instruction)  # MMX, and what touches no memory
    address = context.address(size)
    if name in ALIGNED and address & 15:
        raise GeneralProtection
    value = context.load(address, size)
    at = XMM0 + 8 * XMM[register]
    if name in HIGH:
        state[at + 1] = value
    elif name in ("movlps", "movlpd"):
        state[at] = value
    else:
        state[at], state[at + 1] = value & (1 << 64) - 1, value >> 64
