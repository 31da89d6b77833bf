# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU's registers as GDB knows them: their names, their order, and where they lie in the CPU state.

GDB gets a description of them (XML), with the names of its own standard features, and then asks by number. The
values are those the guest has: in kernel mode CS and SS show the selectors of a PV guest (RPL 3), gs_base is that of
the present mode, and RFLAGS.IF is always set, for a PV guest masks events elsewhere (`monitor vcpus` shows where).

GDB may write what no check of the hypervisor depends on: general registers, RIP, the flags a guest may set itself, the
bases of FS and GS, and the contents of FPU and SSE registers. A segment register or a control word of the FPU may only
be "written" with its present value.

Read beside it: gdb/features/i386/64bit-*.xml in GDB's source; pvhv/machine/cpustate.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from pvhv.core.traps.bounce import IRET_KEEPS
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import CS, DS, EFLAGS, ES, FS, FS_BASE, GS, GS_BASE, IF, RIP, SS
from pvhv.machine.paging import is_canonical

# Byte offsets in the CPU state, of unicorn 2.1.x; tests/observe/test_gdb_registers.py finds them again.
FPU_TOP, FPU_STATUS, FPU_CONTROL, FPU_TAGS, FPU_REGISTERS = 604, 608, 610, 612, 624
FPU_OPCODE, FPU_CS, FPU_DS, FPU_IP, FPU_DP, MXCSR, XMM, XMM_STRIDE = 752, 754, 756, 760, 768, 816, 824, 64
FPU_TOP_BITS = 7 << 11
# What has been raised since the status was last looked at: flags as in MXCSR and the status word, and there C1.
FPU_RAISED, SSE_RAISED, RAISED, RAISED_C1 = 778, 810, 0x3F, 0x80

GENERAL = {
    "rax": 0, "rbx": 3, "rcx": 1, "rdx": 2, "rsi": 6, "rdi": 7, "rbp": 5, "rsp": 4, **{f"r{n}": n for n in range(8, 16)}
}  # fmt: skip
SETTABLE_FLAGS = IRET_KEEPS & ~IF  # as iret has it

Image = memoryview  # the CPU state, as bytes


class Refused(Exception):
    """The register cannot be given that value."""


class Register(NamedTuple):
    """One of GDB's registers. `get` and `put` work on its bytes."""

    name: str
    bits: int
    type: str
    get: Callable[[Image], bytes]
    put: Callable[[Image, bytes], None]


def _same(get: Callable[[Image], bytes]) -> Callable[[Image, bytes], None]:
    """A `put` for a register that cannot be changed."""

    def put(image: Image, value: bytes) -> None:
        if value != get(image):
            raise Refused

    return put


def _plain(name: str, at: int, bits: int, kind: str) -> Register:
    """A register that is a plain field of the CPU state."""
    end = at + bits // 8

    def put(image: Image, value: bytes) -> None:
        image[at:end] = value

    return Register(name, bits, kind, lambda image: bytes(image[at:end]), put)


def _address(name: str, word: int, kind: str) -> Register:
    """A register whose value has to be a canonical address."""
    plain = _plain(name, word * 8, 64, kind)

    def put(image: Image, value: bytes) -> None:
        if not is_canonical(int.from_bytes(value, "little")):
            raise Refused
        plain.put(image, value)

    return plain._replace(put=put)


def _flags() -> Register:
    at = EFLAGS * 8

    def put(image: Image, value: bytes) -> None:
        before = int.from_bytes(image[at : at + 4], "little")
        wanted = int.from_bytes(value, "little") & SETTABLE_FLAGS
        image[at : at + 4] = (before & ~SETTABLE_FLAGS & 0xFFFF_FFFF | wanted).to_bytes(4, "little")

    return Register("eflags", 32, "i386_eflags", lambda image: bytes(image[at : at + 4]), put)


def _selector(name: str, word: int) -> Register:
    at = word * 8

    def get(image: Image) -> bytes:
        return bytes(image[at : at + 2]) + b"\0\0"

    return Register(name, 32, "int32", get, _same(get))


def _stack(number: int) -> Register:
    """A register of the FPU's stack: st0 is the top, wherever that is."""

    def place(image: Image) -> int:
        return FPU_REGISTERS + 16 * (image[FPU_TOP] + number & 7)

    def put(image: Image, value: bytes) -> None:
        at = place(image)
        image[at : at + 10] = value

    return Register(f"st{number}", 80, "i387_ext", lambda image: bytes(image[place(image) : place(image) + 10]), put)


def _control(name: str, get: Callable[[Image], int]) -> Register:
    """A control register of the FPU."""

    def in_bytes(image: Image) -> bytes:
        return get(image).to_bytes(4, "little")

    return Register(name, 32, "int", in_bytes, _same(in_bytes))


def _half(at: int) -> Callable[[Image], int]:
    return lambda image: int.from_bytes(image[at : at + 2], "little")


def _word(at: int) -> Callable[[Image], int]:
    return lambda image: int.from_bytes(image[at : at + 4], "little")


def _status(image: Image) -> int:
    status: int = struct.unpack_from("<H", image, FPU_STATUS)[0]
    raised = image[FPU_RAISED]
    return status & ~FPU_TOP_BITS | (image[FPU_TOP] & 7) << 11 | raised & RAISED | (raised & RAISED_C1) << 2


def _tags(image: Image) -> int:
    """The FPU's tag word: two bits for each register, 3 for an empty one."""
    return sum(3 << 2 * n for n in range(8) if image[FPU_TAGS + n])


def _mxcsr() -> Register:
    value = _word(MXCSR)
    return _control("mxcsr", lambda image: value(image) | image[SSE_RAISED] & RAISED)._replace(type="i386_mxcsr")


FEATURES: dict[str, list[Register]] = {
    "org.gnu.gdb.i386.core": [
        *(_plain(name, word * 8, 64, "data_ptr" if name in ("rbp", "rsp") else "int64")
          for name, word in GENERAL.items()),
        _address("rip", RIP, "code_ptr"),
        _flags(),
        *(_selector(name, word) for name, word in zip(("cs", "ss", "ds", "es", "fs", "gs"), (CS, SS, DS, ES, FS, GS),
                                                      strict=True)),
        *(_stack(n) for n in range(8)),
        _control("fctrl", _half(FPU_CONTROL)), _control("fstat", _status), _control("ftag", _tags),
        _control("fiseg", _half(FPU_CS)), _control("fioff", _word(FPU_IP)),
        _control("foseg", _half(FPU_DS)), _control("fooff", _word(FPU_DP)), _control("fop", _half(FPU_OPCODE)),
    ],
    "org.gnu.gdb.i386.sse": [
        *(_plain(f"xmm{n}", XMM + XMM_STRIDE * n, 128, "vec128") for n in range(16)),
        _mxcsr(),
    ],
    "org.gnu.gdb.i386.segments": [_address("fs_base", FS_BASE, "int"), _address("gs_base", GS_BASE, "int")],
}  # fmt: skip
REGISTERS: list[Register] = [register for registers in FEATURES.values() for register in registers]
NUMBERS = {register.name: number for number, register in enumerate(REGISTERS)}

FLAG_BITS = "CF,0 ,1 PF,2 AF,4 ZF,6 SF,7 TF,8 IF,9 DF,10 OF,11 NT,14 RF,16 VM,17 AC,18 VIF,19 VIP,20 ID,21"
MXCSR_BITS = "IE,0 DE,1 ZE,2 OE,3 UE,4 PE,5 DAZ,6 IM,7 DM,8 ZM,9 OM,10 UM,11 PM,12 FZ,15"
VECTORS = ("v4_float:ieee_single:4", "v2_double:ieee_double:2", "v16_int8:int8:16", "v8_int16:int16:8",
           "v4_int32:int32:4", "v2_int64:int64:2")  # fmt: skip


def _flag_type(name: str, bits: str) -> str:
    fields = "".join(
        f'<field name="{flag}" start="{bit}" end="{bit}"/>' for flag, bit in (each.split(",") for each in bits.split())
    )
    return f'<flags id="{name}" size="4">{fields}</flags>'


def _vector_types() -> str:
    split = [each.split(":") for each in VECTORS]
    vectors = "".join(f'<vector id="{name}" type="{kind}" count="{count}"/>' for name, kind, count in split)
    fields = "".join(f'<field name="{name}" type="{name}"/>' for name, _, _ in split)
    return f'{vectors}<union id="vec128">{fields}<field name="uint128" type="uint128"/></union>'


def description() -> str:
    """The target description: target.xml."""
    types = {
        "org.gnu.gdb.i386.core": _flag_type("i386_eflags", FLAG_BITS),
        "org.gnu.gdb.i386.sse": _vector_types() + _flag_type("i386_mxcsr", MXCSR_BITS),
    }
    features = "".join(
        f'<feature name="{name}">{types.get(name, "")}'
        + "".join(f'<reg name="{each.name}" bitsize="{each.bits}" type="{each.type}"/>' for each in registers)
        + "</feature>"
        for name, registers in FEATURES.items()
    )
    return (
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">'
        f'<target version="1.0"><architecture>i386:x86-64</architecture>{features}</target>'
    )


def image_of(vcpu: VCPU) -> Image:
    """The vCPU's registers, wherever they are: on the pCPU or saved."""
    return vcpu.state.cast("B")


def read_all(vcpu: VCPU) -> bytes:
    """All registers, in order."""
    image = image_of(vcpu)
    return b"".join(register.get(image) for register in REGISTERS)


def write_all(vcpu: VCPU, values: bytes) -> None:
    """Write all registers, or as many as there are values for. Raises Refused; some may have been written by then."""
    image = image_of(vcpu)
    at = 0
    for register in REGISTERS:
        value = values[at : at + register.bits // 8]
        if len(value) < register.bits // 8:
            return
        register.put(image, value)
        at += len(value)
