# SPDX-License-Identifier: GPL-2.0-or-later
"""A pCPU that runs paravirtual guests: for the exits (traps/), `current` is a VCPU.

`Cpu` itself uses only the processor's side of a vCPU (arch.py). The pCPU of a fully virtualized guest is
pvhv.hvm.guest.FullCpu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.core.cpu import Cpu

if TYPE_CHECKING:
    from pvhv.core.vcpu import VCPU


class PvCpu(Cpu):
    """A pCPU whose `current` is a VCPU."""

    current: VCPU
