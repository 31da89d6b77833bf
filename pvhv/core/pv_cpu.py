# SPDX-License-Identifier: GPL-2.0-or-later
"""A pCPU that runs paravirtual guests: what the exits (traps/) find on it is a domain's vCPU.

`Cpu` itself knows only the processor's side of one (arch.py). Its other kind is pvhv.hvm.guest.FullCpu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.core.cpu import Cpu

if TYPE_CHECKING:
    from pvhv.core.vcpu import VCPU


class PvCpu(Cpu):
    """One pCPU, and whose exits it has."""

    current: VCPU
