# SPDX-License-Identifier: GPL-2.0-or-later
"""xl's verbs that pvhv does not have: each prints why, and what there is instead.

They are not in `pvhv --help`, take any arguments, and end with status 1.
"""

from __future__ import annotations

from typing import Annotated

import typer

from pvhv.cli.commands import command
from pvhv.toolstack.errors import ToolstackError

HARDWARE = ("nothing of the host's hardware is handed to domains here", "")
INTERFACES = ("there are no network interfaces here yet", "")
SCREENS = ("there are no screens here", "pvhv console is the way to a domain")
POOLS = ("there is one processor here, and one pool with all domains", "")
SAVING = ("domains cannot be saved, restored or sent elsewhere yet", "pvhv pause stops one; dump-core keeps its state")
BUTTONS = ("there are no buttons here to press", "pvhv shutdown, pvhv reboot and pvhv sysrq ask a guest's kernel")
SECURITY = ("there is no security module here", "")
RESOURCES = ("there are no shared resources of a processor here to divide", "")
WEIGHTS = ("a domain's weight is what its file says", "cpu_weight = ... in the domain file; 256 is everybody's")
MODEL = ("there is no device model here", "")

WHY: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("pci-attach", "pci-detach", "pci-list", "pci-assignable-add", "pci-assignable-remove", "pci-assignable-list",
         "usbctrl-attach", "usbctrl-detach", "usbdev-attach", "usbdev-detach", "usb-list"), HARDWARE
    ),
    **dict.fromkeys(("network-attach", "network-list", "network-detach"), INTERFACES),
    **dict.fromkeys(
        ("vncviewer", "vkb-attach", "vkb-list", "vkb-detach", "vdispl-attach", "vdispl-list", "vdispl-detach"), SCREENS
    ),
    **dict.fromkeys(("vsnd-attach", "vsnd-list", "vsnd-detach"), ("there is no sound here", "")),
    **dict.fromkeys(("vtpm-attach", "vtpm-list", "vtpm-detach"), ("there is no TPM here", "")),
    "channel-list": ("there are no channels here beside the console", "pvhv console is the way to that"),
    **dict.fromkeys(("save", "restore", "migrate", "migrate-receive", "remus"), SAVING),
    "config-update": ("a domain keeps the file it was made from", "destroy it, and create it from the other one"),
    **dict.fromkeys(("button-press", "trigger"), BUTTONS),
    **dict.fromkeys(
        ("cpupool-create", "cpupool-list", "cpupool-destroy", "cpupool-rename", "cpupool-cpu-add",
         "cpupool-cpu-remove", "cpupool-migrate", "cpupool-numa-split", "vcpu-pin"), POOLS
    ),
    **dict.fromkeys(("sched-credit", "sched-credit2"), WEIGHTS),
    "sched-rtds": ("there is no real-time scheduler here", "cpu_weight = ... in the domain file is what there is"),
    **dict.fromkeys(("getenforce", "setenforce", "loadpolicy"), SECURITY),
    **dict.fromkeys(
        ("psr-hwinfo", "psr-cmt-attach", "psr-cmt-detach", "psr-cmt-show", "psr-cat-set", "psr-cat-show",
         "psr-mba-set", "psr-mba-show"), RESOURCES
    ),
    "claims": ("memory is claimed and given at once here: there are no claims outstanding", "pvhv list"),
    "sharing": ("domains share no pages here but by grants", "pvhv debug-keys g prints these; pvhv dmesg shows them"),
    "set-parameters": ("the hypervisor has no parameters to change while it runs", ""),
    "devd": ("backends run in pvhvd itself, and need no daemon of their own", ""),
    "qemu-monitor-command": MODEL,
}  # fmt: skip


def _register(verb: str, why: str, hint: str) -> None:
    @command(verb, hidden=True, takes_anything=True)
    def answer(_rest: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise ToolstackError(f"{verb}: {why}", hint)

    answer.__doc__ = f"{why}."


for _verb, (_why, _hint) in WHY.items():
    _register(_verb, _why, _hint)
