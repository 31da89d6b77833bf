# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel, made of bytes, that says much: a known sequence as fast as its console's ring takes it, then powers off."""

import struct

from tests.toolstack.recipes import shutdown

IN_PROD, OUT_CONS, OUT_PROD, OUT = 0xC04, 0xC08, 0xC0C, 0x400  # in the console's page
ASKS = b"go?\n"
YIELD = b"\xb8\x1d\0\0\0\x31\xff\x31\xf6\x0f\x05"  # sched_op(SCHEDOP_yield, NULL)
SEND = b"\xb8\x20\0\0\0\xbf\x04\0\0\0\x48\x89\xe6\x0f\x05"  # event_channel_op(EVTCHNOP_send, %rsp)


def said(words: int) -> bytes:
    """The sequence: numbers of four bytes, from 0 on."""
    return struct.pack(f"<{words}I", *range(words))


def flood(words: int, waits: bool = True) -> bytes:
    """Code of it. One that waits says `ASKS` and begins when something is typed."""
    begin = b"\x4c\x8d\xbe\x00\x20\x00\x00"  # lea 0x2000(%rsi), %r15: the page is the second after start_info
    begin += b"\x8b\x46\x50\x50"  # mov 80(%rsi), %eax; push %rax: start_info.console.domU.evtchn
    begin += b"\x31\xdb"  # xor %ebx, %ebx
    if waits:
        begin += b"\x41\xc7\x87" + struct.pack("<I", OUT) + ASKS  # movl $ASKS, OUT(%r15)
        begin += b"\x41\xc7\x87" + struct.pack("<II", OUT_PROD, 4) + SEND  # movl $4, OUT_PROD(%r15)
        until = b"\x41\x83\xbf" + struct.pack("<IB", IN_PROD, 0) + b"\x75" + bytes((len(YIELD) + 2,))  # cmpl; jne
        begin += until + YIELD + b"\xeb" + bytes((256 - len(until + YIELD) - 2,))
    room = b"\x41\x8b\x8f" + struct.pack("<I", OUT_PROD) + b"\x89\xc8"  # mov OUT_PROD(%r15), %ecx; mov %ecx, %eax
    room += b"\x41\x2b\x87" + struct.pack("<I", OUT_CONS) + b"\x3d\xfc\x07\0\0"  # sub OUT_CONS(%r15), %eax; cmp
    say = b"\x89\xc8\x25\xff\x07\0\0"  # mov %ecx, %eax; and $2047, %eax
    say += b"\x41\x89\x9c\x07" + struct.pack("<I", OUT)  # mov %ebx, OUT(%r15, %rax)
    say += b"\x83\xc1\x04\x41\x89\x8f" + struct.pack("<I", OUT_PROD)  # add $4, %ecx; mov %ecx, OUT_PROD(%r15)
    say += b"\xff\xc3\xf7\xc3\xff\x01\0\0"  # inc %ebx; test $511, %ebx
    tell = SEND + YIELD
    say += b"\x75" + bytes((len(tell),))  # jnz past telling
    loop = room + b"\x77" + bytes((len(say),)) + say + tell  # ja: it is full
    loop += b"\x81\xfb" + struct.pack("<I", words)  # cmp $words, %ebx
    loop += b"\x0f\x82" + struct.pack("<i", -len(loop) - 6)  # jb
    return begin + loop + SEND + shutdown(0)
