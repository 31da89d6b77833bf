# SPDX-License-Identifier: GPL-2.0-or-later
"""GDB's remote serial protocol for a domain: what Xen's gdbsx is to a real Xen.

packets.py knows how packets are written, registers.py what a vCPU's registers are called there, server.py what packets
ask for and monitor.py what people type behind `monitor`. They work on a pvhv.core.debugger.Debugger, on the
hypervisor's thread; how bytes come and go is the toolstack's.
"""
