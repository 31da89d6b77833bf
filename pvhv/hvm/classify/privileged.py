# SPDX-License-Identifier: GPL-2.0-or-later
"""For comparison: privileged instructions, which trap outside ring 0, and a few that the table of 2000 leaves out.

Not modelled: RDPMC, which the engine cannot execute at any ring; XSETBV and what else it has no feature for.
"""

from __future__ import annotations

from typing import Final

from pvhv.hvm.classify.row import INVALID, SYSTEM_CALL, Kind, Row

_DONE: Final = "b801000000  mov eax, 1\n"
_PRIVILEGED: Final = "APM 2 6 (table 6-1), APM 3 {0}; SDM 3A 5.9, SDM 2 {0}"


def _cr0(value: int) -> str:
    code = value.to_bytes(4, "little").hex()
    return f"""
        b8{code}  mov eax, {value:#x}
        0f22c0    mov cr0, rax
        """


_TS_SET: Final = _cr0(0x8005003B)
_TS_CLEAR: Final = _cr0(0x80050033)
_STAR: Final = """
    b9800000c0  mov ecx, 0xc0000080
    0f32        rdmsr
    83c801      or eax, 1
    0f30        wrmsr
    b9810000c0  mov ecx, 0xc0000081
    31c0        xor eax, eax
    ba08002800  mov edx, 0x280008
    0f30        wrmsr
    """
_KERNEL_GS: Final = """
    b9020100c0  mov ecx, 0xc0000102
    b834120000  mov eax, 0x1234
    31d2        xor edx, edx
    0f30        wrmsr
    """


def _table(code: str, name: str, limit: int) -> str:
    table, bytes_of_limit = name[1:], limit.to_bytes(2, "little").hex()
    return f"""
          4883ec10                  sub rsp, 0x10
          66c70424{bytes_of_limit}  mov word ptr [rsp], {limit:#x}
          b8{{{table}}}             mov eax, {table}
          4889442402                mov qword ptr [rsp + 2], rax
        * {code}                    {name} [rsp]
        """


def _plain(
    name: str, body: str, wants: dict[str, int] | None = None, seen: str = "done", kind: Kind = "control",
    *, before: str = "", engine: str = "", micro: bool = True, why: str = "", manual: str = _PRIVILEGED,
) -> Row:  # fmt: skip
    if wants is None:
        body, wants = body.rstrip() + "\n" + _DONE, {"rax": 1}
    manual = manual.format(name.split()[0])
    why = why or ("tells" if kind == "location" else "changes") + " the machine's state"
    return Row(name, body, wants, seen, manual, kind, why, before, engine=engine, micro=micro)


_IO: Final = "the engine checks nothing: pvhv compares CPL with IOPL and looks at the TSS's bitmap for the CPU"

_IO_MANUAL: Final = "APM 2 3.1.6, 12.2.4-5, APM 3 {0}; SDM 1 (I/O protection), SDM 2 {0}"
_IRET: Final = "APM 2 8.9.3, APM 3 IRET; SDM 3A 2.3, 6.12, SDM 2 IRET"
_TIME: Final = "APM 2 3.1.3 (TSD), APM 3 {0}; SDM 3A 2.5, SDM 2 {0}"

PRIVILEGED: Final = [
    _plain("CLI", "* fa  cli"),
    _plain("STI", "* fb  sti\nfa  cli"),
    _plain("HLT", "* f4  hlt", micro=False),
    _plain("MOV from CR0", "* 0f20c0  mov rax, cr0", {"rax": 0x8005003B}, "CR0 {rax:#x}", "location", before=_TS_SET),
    _plain("MOV to CR0", _TS_SET.replace("0f22c0", "* 0f22c0") + "0f20c0  mov rax, cr0",
           {"rax": 0x8005003B}, "CR0 {rax:#x}"),
    _plain("MOV CR2", """
          b800402301  mov eax, 0x1234000
        * 0f22d0      mov cr2, rax
        * 0f20d3      mov rbx, cr2
        """, {"rbx": 0x1234000}, "CR2 {rbx:#x}"),
    _plain("MOV CR3", """
        * 0f20d8  mov rax, cr3
        * 0f22d8  mov cr3, rax
        """),
    _plain("MOV CR4", """
        * 0f20e0  mov rax, cr4
        * 0f22e0  mov cr4, rax
        """),
    _plain("MOV CR8", "* 440f22c0  mov cr8, rax", engine="the engine has no APIC: CR8 reads 0 whatever was written"),
    _plain("MOV DR", """
          b834120000  mov eax, 0x1234
        * 0f23c0      mov dr0, rax
        * 0f21c3      mov rbx, dr0
        """, {"rbx": 0x1234}, "DR0 {rbx:#x}"),
    _plain("LGDT", _table("0f011424", "lgdt", 0x6F)),
    _plain("LIDT", _table("0f011c24", "lidt", 0x82F)),
    _plain("LLDT", "b840000000  mov eax, 0x40\n* 0f00d0  lldt ax"),
    _plain("LTR", "b860000000  mov eax, 0x60\n* 0f00d8  ltr ax"),
    _plain("INVLPG", "* 0f013c24  invlpg [rsp]"),
    _plain("WBINVD", "* 0f09  wbinvd", engine="nothing to do: the engine has no caches"),
    _plain("INVD", "* 0f08  invd", engine="nothing to do: the engine has no caches"),
    _plain("RDMSR", "b9020100c0  mov ecx, 0xc0000102\n* 0f32  rdmsr", {"rax": 0x1234, "rdx": 0},
           "KERNEL_GS_BASE {rax:#x}", "location", before=_KERNEL_GS),
    _plain("WRMSR", _KERNEL_GS.replace("0f30", "* 0f30") + "31c0  xor eax, eax\n0f32  rdmsr",
           {"rax": 0x1234, "rdx": 0}, "KERNEL_GS_BASE {rax:#x}"),
    _plain("CLTS", "* 0f06  clts\n0f20c0  mov rax, cr0", {"rax": 0x80050033}, "CR0 {rax:#x}", before=_TS_SET),
    _plain("LMSW", """
          b83b000000  mov eax, 0x3b
        * 0f01f0      lmsw ax
          0f20c0      mov rax, cr0
        """, {"rax": 0x8005003B}, "CR0 {rax:#x}", before=_TS_CLEAR),
    _plain("SWAPGS", """
        * 0f01f8      swapgs
          b9010100c0  mov ecx, 0xc0000101
          0f32        rdmsr
        """, {"rax": 0x1234, "rdx": 0}, "GS base {rax:#x}", before=_KERNEL_GS),
    _plain("SYSRET", """
          b9{there}     mov ecx, there
          41bb02000000  mov r11d, 2
        * 480f07        sysretq
        there:
          8cc8          mov eax, cs
          cd80          int 0x80
        """, {"rax": 0x3B}, "CS {rax:#x}", before=_STAR),
    _plain("IRET", """
          4889e0      mov rax, rsp
          6a10        push 0x10
          50          push rax
          6a02        push 2
          6a08        push 8
          68{there}   push there
        * 48cf        iretq
        there:
          b801000000  mov eax, 1
        """, {"rax": 1}, "returned: {rax}", "mode", manual=_IRET,
           why="not privileged, but a frame of ring 0 is #GP(0x8) for who is not there"),
    _plain("IRET to ring 3", """
          4889e0      mov rax, rsp
          6a33        push 0x33
          50          push rax
          6802300000  push 0x3002
          6a3b        push 0x3b
          68{there}   push there
        * 48cf        iretq
        there:
          9c          pushfq
          58          pop rax
          2500320000  and eax, 0x3200
          cd80        int 0x80
        """, {"rax": 0x3000}, "IF and IOPL {rax:#x} after loading 0x3000", manual=_IRET,
           why="to an outer ring it executes, and leaves IF and IOPL alone as POPF does: the table lacks it"),
    _plain("IN", "ba80000000  mov edx, 0x80\n* ec  in al, dx", kind="location", engine=_IO, manual=_IO_MANUAL),
    _plain("OUT", "ba80000000  mov edx, 0x80\n* ee  out dx, al", engine=_IO, manual=_IO_MANUAL),
    _plain("CPUID", "* 0fa2  cpuid\n" + _DONE, {"rax": 1}, "the real CPU's vendor, beginning {rbx:#x}", "",
           engine="the engine always asks pvhv, which answers as one CPU",
           manual="APM 2 6.2.1, APM 3 CPUID; SDM 2 CPUID",
           why="the same at any ring; a monitor that promises another CPU needs CPUID faulting, or an intercept"),
    *(
        _plain(name, f"* {code}  {name.lower()}\n31d2  xor edx, edx", kind="location", manual=_TIME,
               why="tells real time; traps as the monitor sets CR4.TSD")
        for name, code in (("RDTSC", "0f31"), ("RDTSCP", "0f01f9"))
    ),
    _plain("SYSCALL", "* 0f05  syscall", {"rcx": SYSTEM_CALL}, "its entry ran: {rcx:#x}", "location",
           before=_STAR + """
               b9820000c0   mov ecx, 0xc0000082
               b8{entry}  mov eax, entry
               31d2         xor edx, edx
               0f30         wrmsr
           """,
           engine="pvhv executes it for the CPU", manual="APM 2 6.1.1; SDM 3A 5.8.8, SDM 2 SYSCALL",
           why="goes where the real LSTAR says: into the monitor"),
    _plain("SYSENTER", "* 0f34  sysenter", {"rcx": INVALID}, "vector {rcx}", "",
           engine="the engine would do nothing: pvhv raises #UD, as AMD's long mode does (Intel's enters the monitor)",
           manual="APM 2 6.1.2; SDM 3A 5.8.7, SDM 2 SYSENTER", why="does not exist in AMD's long mode"),
]  # fmt: skip
