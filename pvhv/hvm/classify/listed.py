# SPDX-License-Identifier: GPL-2.0-or-later
"""Robin and Irvine's table, row by row: sensitive on x86, and not privileged.

Their table has eighteen names (their abstract says seventeen); where long mode has dropped a form, or the uses of one
name behave differently, a name has several rows here. Each body contains the use that shows why the name is in the
table. Most come down to two facts that a monitor cannot hide from a guest that it runs outside ring 0: the tables in
the CPU's registers are the monitor's, and descriptors and selectors tell the real privilege (a guest's ring 0
descriptors must get a higher DPL, or it could not use them).

It does not know how rows are run (row.py tells what a body may assume).
"""

from __future__ import annotations

from typing import Final

from pvhv.hvm.classify.row import FAULT, INVALID, Row

UMIP: Final = "the engine has no CR4.UMIP, with which it raises #GP(0) outside ring 0 (SDM 3A 2.5)"
_GONE: Final = "the form does not exist in 64-bit mode: #UD on any machine, at any ring"

_SEGMENTS: Final = "APM 2 4.10-4.11, 6.3.1; SDM 3A 5.5-5.6"
_TRANSFERS: Final = "APM 2 4.11.1-4.11.2; SDM 3A 5.8"
_CHECKS: Final = "APM 2 6.4; SDM 3A 5.10"

LISTED: Final = [
    Row(
        "SGDT",
        """
          4883ec10    sub rsp, 0x10
        * 0f010424    sgdt [rsp]
          0fb70424    movzx eax, word ptr [rsp]
          488b5c2402  mov rbx, qword ptr [rsp + 2]
        """,
        {"rax": 0x6F, "rbx": "gdt"},
        "a GDT at {rbx:#x}, limit {rax:#x}",
        "APM 2 4.6.2, 6.3.3; SDM 3A 2.4.1, SDM 2 SGDT",
        "location",
        "tells where the CPU's GDT lies: the monitor's",
        engine=UMIP,
        listed=True,
    ),
    Row(
        "SIDT",
        """
          4883ec10    sub rsp, 0x10
        * 0f010c24    sidt [rsp]
          0fb70424    movzx eax, word ptr [rsp]
          488b5c2402  mov rbx, qword ptr [rsp + 2]
        """,
        {"rax": 0x82F, "rbx": "idt"},
        "an IDT at {rbx:#x}, limit {rax:#x}",
        "APM 2 4.6.6, 6.3.3; SDM 3A 2.4.3, SDM 2 SIDT",
        "location",
        "tells where the CPU's IDT lies: the monitor's (Rutkowska's red pill)",
        engine=UMIP,
        listed=True,
    ),
    Row(
        "SLDT",
        "* 0f00c0  sldt eax",
        {"rax": 0x40},
        "LDTR {rax:#x}",
        "APM 2 4.6.4, 6.3.3; SDM 3A 2.4.2, SDM 2 SLDT",
        "location",
        "tells the CPU's LDT selector: the monitor's",
        engine=UMIP,
        listed=True,
    ),
    Row(
        "SMSW",
        "* 0f01e0  smsw eax",
        {"rax": 0x8004003B},
        "CR0 {rax:#x}",
        "APM 2 3.1.1, 6.2.2; SDM 3A 2.5, SDM 2 SMSW",
        "location",
        "tells the real CR0 (here WP and TS), when MOV from CR0 traps",
        before="""
            b83b000480  mov eax, 0x8004003b
            0f22c0      mov cr0, rax
        """,
        engine=UMIP,
        listed=True,
    ),
    Row(
        "PUSHF",
        """
        * 9c          pushfq
          58          pop rax
          2500320000  and eax, 0x3200
        """,
        {"rax": 0},
        "IF and IOPL {rax:#x}",
        "APM 2 3.1.6, 6.2.3; SDM 3A 2.3, SDM 2 PUSHF",
        "mode",
        "tells the real IF: on, though the guest has disabled interrupts",
        before="fa  cli",
        listed=True,
    ),
    Row(
        "POPF",
        """
          6800300000  push 0x3000
        * 9d          popfq
          9c          pushfq
          58          pop rax
          2500320000  and eax, 0x3200
        """,
        {"rax": 0x3000},
        "IF and IOPL {rax:#x} after loading 0x3000",
        "APM 2 3.1.6, 6.2.3; SDM 3A 2.3, SDM 2 POPF",
        "control",
        "leaves IF alone where CPL > IOPL, and IOPL outside ring 0, and says nothing",
        listed=True,
    ),
    Row(
        "LAR",
        """
          b910000000  mov ecx, 0x10
        * 0f02c1      lar eax, ecx
          0f94c3      sete bl
          2500fff000  and eax, 0xf0ff00
        """,
        {"rax": 0xC09300, "rbx": 1},
        "ZF {rbx}, access rights {rax:#x}",
        f"{_CHECKS}.1, SDM 2 LAR",
        "mode",
        "shows the DPL that the monitor gave the guest's segment",
        listed=True,
    ),
    Row(
        "LSL",
        """
          b950000000  mov ecx, 0x50
        * 0f03c1      lsl eax, ecx
          0f94c3      sete bl
          b911000000  mov ecx, 0x11
        * 0f03c9      lsl ecx, ecx
          0f94c2      sete dl
        """,
        {"rax": 0x67, "rbx": 1, "rdx": 0},
        "TSS: ZF {rbx}, limit {rax:#x}; data segment for ring 1: ZF {rdx}",
        f"{_CHECKS}.3, SDM 2 LSL",
        "mode",
        "goes by the real CPL and DPL: denies what ring 0 may ask, grants what ring 1 may not",
        listed=True,
    ),
    *(
        Row(
            name,
            f"""
              b910000000  mov ecx, 0x10
            * {code}      {name.lower()} cx
              0f94c0      sete al
              b911000000  mov ecx, 0x11
            * {code}      {name.lower()} cx
              0f94c3      sete bl
            """,
            {"rax": 1, "rbx": 0},
            f"{what} data segment: {{rax}}; for ring 1: {{rbx}}",
            f"{_CHECKS}.2, SDM 2 {name}",
            "mode",
            "rings 0 and 1 have become one: what ring 0 keeps to itself verifies for ring 1",
            listed=True,
        )
        for name, code, what in (("VERR", "0f00e1", "may read"), ("VERW", "0f00e9", "may write"))
    ),
    Row(
        "POP",
        """
          6a11  push 0x11
        * 0fa1  pop fs
          8ce2  mov edx, fs
        """,
        {"rax": 0, "rbx": 0x10, "rcx": FAULT},
        "FS {rdx:#x}",
        f"{_SEGMENTS}, SDM 2 POP",
        "mode",
        "loads its data segment for ring 1 (RPL > DPL), which must be #GP(0x10): the real DPL is not 0",
        listed=True,
    ),
    Row(
        "POP SS (32-bit)",
        """
          6a10        push 0x10
        * 17          pop ss
          b801000000  mov eax, 1
        """,
        {"rax": 1},
        "its own data segment loaded: {rax}",
        f"{_SEGMENTS}, SDM 2 POP",
        "mode",
        "SS must have RPL = CPL, which the guest's 0 is not",
        mode=32,
        listed=True,
        instruction="POP",
    ),
    Row(
        "POP SS",
        "* 17  pop ss",
        {"rcx": INVALID},
        "vector {rcx}",
        "APM 3 POP; SDM 2 POP",
        why=_GONE,
        listed=True,
        instruction="POP",
    ),
    Row(
        "PUSH",
        """
          6a10  push 0x10
          0fa1  pop fs
        * 0fa0  push fs
          58    pop rax
        """,
        {"rax": 0x10},
        "FS {rax:#x}",
        f"{_SEGMENTS}, SDM 2 PUSH",
        why="a data selector is stored as it was loaded; CS and SS, which are not, cannot be pushed in 64-bit mode",
        listed=True,
    ),
    Row(
        "PUSH CS (32-bit)",
        """
        * 0e      push cs
          58      pop eax
          0fb7c0  movzx eax, ax
        """,
        {"rax": 0x18},
        "CS {rax:#x}",
        f"{_SEGMENTS}, SDM 2 PUSH",
        "mode",
        "the RPL of CS is the real CPL",
        mode=32,
        listed=True,
        instruction="PUSH",
    ),
    Row(
        "PUSH CS",
        "* 0e  push cs",
        {"rcx": INVALID},
        "vector {rcx}",
        "APM 3 PUSH; SDM 2 PUSH",
        why=_GONE,
        listed=True,
        instruction="PUSH",
    ),
    Row(
        "CALL",
        """
          4883ec08        sub rsp, 8
          c70424{there}   mov dword ptr [rsp], there
          66c74424040800  mov word ptr [rsp + 4], 8
        * ff1c24          call far [rsp]
        there:
          0fb7442404      movzx eax, word ptr [rsp + 4]
        """,
        {"rax": 8},
        "return address in CS {rax:#x}",
        f"{_TRANSFERS}.1, SDM 2 CALL",
        "mode",
        "a far call saves CS, whose RPL is the real CPL; through a gate it would change to a real ring",
        listed=True,
    ),
    Row(
        "CALL (32-bit)",
        """
        * 9a{there}1800  call 0x18:there
        there:
          58             pop eax
          58             pop eax
          0fb7c0         movzx eax, ax
        """,
        {"rax": 0x18},
        "return address in CS {rax:#x}",
        f"{_TRANSFERS}.1, SDM 2 CALL",
        "mode",
        "as in 64-bit mode; the direct form",
        mode=32,
        listed=True,
        instruction="CALL",
    ),
    Row(
        "CALL ptr16:32",
        """
        * 9a{there}0800  call 8:there
        there:
        """,
        {"rcx": INVALID},
        "vector {rcx}",
        "APM 3 CALL (Far); SDM 2 CALL",
        why=_GONE,
        listed=True,
        instruction="CALL",
    ),
    Row(
        "JMP",
        """
          4883ec08        sub rsp, 8
          c70424{there}   mov dword ptr [rsp], there
          66c74424040800  mov word ptr [rsp + 4], 8
        * ff2c24          jmp far [rsp]
        there:
          8cc8            mov eax, cs
        """,
        {"rax": 8},
        "CS {rax:#x} after a jump to 0x8",
        f"{_TRANSFERS}.1, SDM 2 JMP",
        "mode",
        "a far jump loads CS with the real CPL for RPL (shown by MOV from CS)",
        listed=True,
    ),
    Row(
        "JMP (32-bit)",
        """
        * ea{there}1800  jmp 0x18:there
        there:
          8cc8           mov eax, cs
        """,
        {"rax": 0x18},
        "CS {rax:#x} after a jump to 0x18",
        f"{_TRANSFERS}.1, SDM 2 JMP",
        "mode",
        "as in 64-bit mode; the direct form",
        mode=32,
        listed=True,
        instruction="JMP",
    ),
    Row(
        "JMP ptr16:32",
        """
        * ea{there}0800  jmp 8:there
        there:
        """,
        {"rcx": INVALID},
        "vector {rcx}",
        "APM 3 JMP (Far); SDM 2 JMP",
        why=_GONE,
        listed=True,
        instruction="JMP",
    ),
    Row(
        "INT n",
        "* cd80  int 0x80",
        {"rcx": 0x80},
        "its handler ran: {rcx:#x}",
        "APM 2 8.9.1, 4.11.2; SDM 3A 6.12.1.1, SDM 2 INT n",
        "location",
        "goes by the monitor's IDT, where a gate of DPL 0 makes it #GP: no harm then",
        engine="pvhv walks the IDT and checks the gate for the CPU",
        listed=True,
    ),
    Row(
        "INT n, open gate",
        "* cd82  int 0x82",
        {"rcx": 0x82},
        "its handler ran: {rcx:#x}",
        "APM 2 8.9.1, 4.11.2; SDM 3A 6.12.1.1, SDM 2 INT n",
        "location",
        "where the monitor left a gate open it arrives there, not at the guest's handler: the monitor must pass it on",
        engine="pvhv walks the IDT and checks the gate for the CPU",
        listed=True,
        instruction="INT n",
    ),
    Row(
        "RET",
        """
          488d842400ffffff  lea rax, [rsp - 0x100]
          6a29              push 0x29
          50                push rax
          6a21              push 0x21
          68{there}         push there
        * 48cb              retfq
        there:
          4829e0            sub rax, rsp
          8ccb              mov ebx, cs
          cd80              int 0x80
        """,
        {"rax": 0, "rbx": 0x21},
        "CS {rbx:#x}, stack off by {rax:#x}",
        f"{_TRANSFERS}.6, SDM 2 RET",
        "mode",
        "leaves the guest's ring 0 for its ring 1: the same real ring, so the stack is not switched",
        listed=True,
    ),
    Row(
        "RET to its own ring",
        """
          6a08        push 8
          68{there}   push there
        * 48cb        retfq
        there:
          b801000000  mov eax, 1
        """,
        {"rax": 1},
        "returned: {rax}",
        f"{_TRANSFERS}.6, SDM 2 RET",
        "mode",
        "a far return may not go inwards: the RPL of 0 is #GP(0x8) for who is not in ring 0",
        listed=True,
        instruction="RET",
    ),
    Row(
        "RET to ring 3",
        """
          488d842400ffffff  lea rax, [rsp - 0x100]
          6a33              push 0x33
          50                push rax
          6a3b              push 0x3b
          68{there}         push there
        * 48cb              retfq
        there:
          4829e0            sub rax, rsp
          8ccb              mov ebx, cs
          cd80              int 0x80
        """,
        {"rax": 0, "rbx": 0x3B},
        "CS {rbx:#x}, stack off by {rax:#x}",
        f"{_TRANSFERS}.6, SDM 2 RET",
        "mode",
        "to an outer ring for a guest at ring 1, who sees no difference; at ring 3 to the same, without its stack",
        listed=True,
        instruction="RET",
    ),
    Row(
        "STR",
        "* 0f00c8  str eax",
        {"rax": 0x50},
        "TR {rax:#x}",
        "APM 2 6.3.3, 12.2.3; SDM 3A 2.4.4, SDM 2 STR",
        "location",
        "tells the CPU's TSS selector: the monitor's",
        engine=UMIP,
        listed=True,
    ),
    Row(
        "MOV",
        "* 8cc8  mov eax, cs",
        {"rax": 8},
        "CS {rax:#x}",
        f"{_SEGMENTS}, SDM 2 MOV",
        "mode",
        "the RPL of CS is the real CPL",
        listed=True,
    ),
    Row(
        "MOV to FS",
        """
          b811000000  mov eax, 0x11
        * 8ee0        mov fs, eax
          8ce2        mov edx, fs
        """,
        {"rbx": 0x10, "rcx": FAULT},
        "FS {rdx:#x}",
        f"{_SEGMENTS}, SDM 2 MOV",
        "mode",
        "as POP: the fault that RPL > DPL must be does not come",
        listed=True,
        instruction="MOV",
    ),
    Row(
        "MOV to SS",
        """
          b910000000  mov ecx, 0x10
        * 8ed1        mov ss, ecx
          b801000000  mov eax, 1
        """,
        {"rax": 1},
        "its own data segment loaded: {rax}",
        f"{_SEGMENTS}, SDM 2 MOV",
        "mode",
        "SS must have RPL = CPL, which the guest's 0 is not",
        listed=True,
        instruction="MOV",
    ),
]
