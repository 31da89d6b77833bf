# SPDX-License-Identifier: GPL-2.0-or-later
"""GDB's remote serial protocol for a domain: what Xen's gdbsx is to a real Xen.

packets.py reads and writes packets, registers.py has a vCPU's registers by GDB's names, server.py answers packets, and
monitor.py what people type behind `monitor`. They work on a pvhv.core.debugger.Debugger, on the hypervisor's thread.
The toolstack transports the bytes.
"""
