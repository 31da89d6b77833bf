# SPDX-License-Identifier: GPL-2.0-or-later
"""Every key a domain file may have, in one table: how its value is read, and what becomes of it.

A key of xl's is taken; or passed over with a warning, where a guest can do without it; or refused, where a guest would
miss something it needs. A key that means nothing to a domain of the file's type is not looked at, as in xl. Nor is a
value that asks for what a domain has anyway: each row lists such values. A key that is not in the table gets a warning
and has no effect; xl ignores it, too.

docs/domain-files.md is printed from this table, and a test asks Debian's own xl which keys it looks for.

Read beside it: xl.cfg(5), parse_config_data in tools/xl/xl_parse.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from pvhv.hvm import names as technique_names


class Fate(Enum):
    """What becomes of a key whose value asks for something."""

    TAKEN = "taken"
    PASSED_OVER = "passed over, with a warning"
    REFUSED = "refused"


class Reads(Enum):
    """How xl reads a key's value."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LIST = "list"
    STRING_OR_LIST = "string or list"
    NUMBER_OR_STRING = "number or string"
    BOOLEAN_OR_LIST = "boolean or list"


PV, PVH, HVM, ARM = "pv", "pvh", "hvm", "Arm"
ANY = (PV, PVH, HVM)
QUIET = ("", "0", "default", "none", "disabled")  # say nothing, whichever key says it


class Key(NamedTuple):
    """A row of the table."""

    name: str
    reads: Reads
    fate: Fate
    doc: str  # of a key that is taken: what it means; else why it is not
    hint: str = ""  # what to do about it
    of: tuple[str, ...] = ANY  # types of domains it means something to
    quiet: tuple[str, ...] = ()  # further values that ask for nothing
    ours: bool = False  # xl does not know it


ACTIONS = (
    "destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart", "soft-reset",
)  # fmt: skip
CLOCKS = ("wall", "virtual")

KEYS: dict[str, Key] = {}


def _rows(
    fate: Fate,
    reads: Reads,
    rows: Iterable[tuple[str, ...]],  # name, doc, and a hint where there is one
    of: tuple[str, ...] = ANY,
    quiet: tuple[str, ...] = (),
    ours: bool = False,
) -> None:
    for name, doc, *hint in rows:
        assert name not in KEYS, f"{name} stands here twice"
        KEYS[name] = Key(name, reads, fate, doc, "".join(hint), of, quiet, ours)


def _all(
    fate: Fate, reads: Reads, names: str, doc: str, of: tuple[str, ...] = ANY, quiet: tuple[str, ...] = ()
) -> None:
    _rows(fate, reads, ((name, doc) for name in names.split()), of, quiet)


# -- what is taken -------------------------------------------------------------------------------------------
_rows(Fate.TAKEN, Reads.STRING, [
    ("name", "what the domain is called, in any characters; the file's own name where it says nothing"),
    ("type", '`pv`: paravirtual (as without the key), or `hvm`: fully virtualized. There is no `pvh`: a kernel with '
             'a PVH entry runs with `hvm`'),
    ("builder", "the old word for type: `generic` (or `linux`) for pv, or `hvm`"),
    ("uuid", "the domain's handle"),
    ("kernel", "an ELF with Xen notes, Linux as distributions pack it, or the name of a kernel that is here; relative "
               "to the file"),
    ("ramdisk", "handed to the kernel as its module; relative to the file"),
    ("cmdline", "the kernel's command line, of 1023 bytes at most"),
    ("root", "the old way to write cmdline, with extra: `root=...`; nothing beside cmdline"),
    ("extra", "comes after root; nothing beside cmdline"),
    ("on_poweroff", "what happens after a poweroff; `destroy` by default"),
    ("on_reboot", "after a reboot; `restart` by default"),
    ("on_crash", "after a crash; `preserve` by default, where xl has `destroy`, so that there is something to look at"),
    ("on_watchdog", "after its watchdog bit; what on_crash says by default"),
    ("on_soft_reset", "after a guest asked for a soft reset; `soft-reset` by default, which ends a paravirtual domain: "
                      "Xen cannot do it to one either"),
])  # fmt: skip
_rows(Fate.TAKEN, Reads.NUMBER, [
    ("memory", "MiB the domain starts with; maxmem, or 32, where it says nothing"),
    ("maxmem", "MiB it may grow to; memory by default"),
    ("vcpus", "virtual processors it starts with, of 32 at most; 1 by default"),
    ("maxvcpus", "virtual processors it may bring up; vcpus by default"),
    ("cpu_weight", "its share of the processor: 1 to 65535; 256 is everybody's"),
    ("max_event_channels", "the highest event channel port it may have; 1023 by default"),
    ("max_grant_frames", "frames of grant entries it may have: 1 to 64; 64 by default"),
    ("max_maptrack_frames", "frames of other domains' grants it may map: 0 to 1024; 1024 by default"),
    ("max_grant_version", "the version its grant table may have: 1 or 2; 2 by default"),
    ("rtc_timeoffset", "seconds its wall clock is ahead of the machine's"),
])  # fmt: skip
_rows(Fate.TAKEN, Reads.BOOLEAN, [
    ("localtime", "its wall clock shows local time, not UTC; but on a virtual clock, which is the same everywhere"),
])  # fmt: skip
_rows(Fate.TAKEN, Reads.LIST, [
    ("disk", "its disks, each a string of xl-disk-configuration(5): `FILE,raw,xvda,rw`, or with `target=`, `format=`, "
             "`vdev=` and `access=`. A file is relative to this one; its format is raw (the default) or qcow2; a name "
             "is xvda, xvdb and so on; of a domain of type hvm, hda to hdd for IDE disks, or vda to vdp for virtio "
             "disks, which are not xl's. Two domains may share one only if neither writes to it; after `create "
             "--ephemeral` none does. `cdrom` makes a CD-ROM drive of it, which is empty without a target; "
             "`no-discard` keeps the guest from discarding; and, ours alone, `sector-size=4096` has the guest "
             "read and write 4096 bytes at least"),
])  # fmt: skip
_rows(Fate.TAKEN, Reads.STRING, [
    ("technique", f"how a domain of type hvm is virtualized: `{'`, `'.join(technique_names.NAMES)}`"),
    ("clock", "`wall` by default, or `virtual`: time is instructions executed, every run the same"),
    ("timeline", "domains that name the same timeline share one virtual clock"),
], ours=True)  # fmt: skip
_rows(Fate.TAKEN, Reads.NUMBER, [
    ("disk_latency", "microseconds of a virtual clock that each request to a disk takes, however large it is and "
                     "however many others there are: 0 to 1000000; 100 by default. Nothing on the wall clock, where a "
                     "disk takes as long as it takes"),
], ours=True)  # fmt: skip

# -- what a guest would not get ------------------------------------------------------------------------------
TAKE_OUT = "take the line out"
_rows(Fate.REFUSED, Reads.LIST, [
    ("p9", "there are no shared folders here", TAKE_OUT),
    ("pvcalls", "there are no PV calls here", TAKE_OUT),
    ("vtpm", "there is no TPM here", TAKE_OUT),
    ("channel", "there are no channels here beside the console", TAKE_OUT),
    *((name, "nothing of the host's hardware is handed through here", TAKE_OUT)
      for name in ("pci", "usbdev", "dtdev", "ioports", "irqs", "iomem")),
])  # fmt: skip
NAME_A_KERNEL = "take the line out, and name the guest's kernel: kernel = ..."
_rows(Fate.REFUSED, Reads.STRING, [("bootloader", "there is no bootloader here", NAME_A_KERNEL)], of=(PV, PVH))
_rows(Fate.REFUSED, Reads.STRING, [("firmware", "there is no firmware to boot from here", NAME_A_KERNEL)],
      quiet=("bios", "uefi", "seabios", "rombios", "ovmf"))  # fmt: skip

# -- what a guest can do without -----------------------------------------------------------------------------
_rows(Fate.PASSED_OVER, Reads.LIST, [
    ("vif", "there are no network interfaces here yet; the domain has none"),
    ("vif2", "xl has no such interfaces either"),
    ("vnuma", "there is one node of memory here"),
    ("vsnd", "there is no sound here"),
    ("vdispl", "there are no displays here; the domain has its console"),
    ("vfb", "there are no screens here; the domain has its console"),
    ("vkb", "there are no keyboards here but the console's"),
    ("usbctrl", "there is no USB here"),
])  # fmt: skip
_all(Fate.PASSED_OVER, Reads.STRING_OR_LIST, "cpus cpus_soft", "there is one processor here, on which all vCPUs run",
     quiet=("all",))  # fmt: skip
_all(Fate.PASSED_OVER, Reads.NUMBER, "cap period slice latency extratime",
     "the scheduler here knows cpu_weight alone")  # fmt: skip
_rows(Fate.PASSED_OVER, Reads.STRING, [("pool", "there is one pool of processors here")], quiet=("Pool-0",))
_all(Fate.PASSED_OVER, Reads.STRING, "seclabel init_seclabel", "there are no security labels here")
_rows(Fate.PASSED_OVER, Reads.BOOLEAN, [
    ("nomigrate", "there is no migration here to forbid"),
    ("driver_domain", "domain 0 has all backends here"),
    ("xend_suspend_evtchn_compat", "there is no suspending here"),
    ("vpmu", "there are no performance counters here"),
    ("msr_relaxed", "a guest's MSRs are as Xen has them; see hypercalls.md"),
    ("dm_restrict", "there is no device model here"),
])  # fmt: skip
_rows(Fate.PASSED_OVER, Reads.BOOLEAN, [("e820_host", "a guest's memory begins at 0 and has no holes here")], of=(PV,))
_rows(Fate.PASSED_OVER, Reads.STRING, [("passthrough", "there is no IOMMU here")])
_rows(Fate.PASSED_OVER, Reads.NUMBER, [("vmtrace_buf_kb", "`pvhv trace` shows what a domain does")])
_rows(Fate.PASSED_OVER, Reads.STRING_OR_LIST, [("bootloader_args", "there is no bootloader here")], of=(PV, PVH))
_rows(Fate.PASSED_OVER, Reads.STRING_OR_LIST, [("cpuid", "a guest's CPUID is the engine's, as Xen filters it")],
      quiet=("host",))  # fmt: skip
_rows(Fate.PASSED_OVER, Reads.NUMBER_OR_STRING, [("tsc_mode", "the TSC goes with the domain's clock")],
      quiet=("always_emulate", "1"))  # fmt: skip
SCREEN = "there are no screens here; the domain has its console"
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "vnc", SCREEN)
_all(Fate.PASSED_OVER, Reads.STRING, "vnclisten vncpasswd", SCREEN, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.NUMBER, "vncdisplay videoram", SCREEN, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "vncunused", SCREEN, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.NUMBER, "vncviewer", "xl passes it over as well; `pvhv console` is the way to a domain")
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "sdl opengl", SCREEN, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.STRING, "display xauthority keymap", SCREEN, of=(HVM,))
HANDED = "it goes with pci, and nothing of the host's hardware is handed through here"
_all(Fate.PASSED_OVER, Reads.NUMBER, "pci_msitranslate pci_power_mgmt pci_permissive pci_seize", HANDED)
_all(Fate.PASSED_OVER, Reads.STRING, "rdm", HANDED, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.NUMBER, "rdm_mem_boundary", HANDED, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.NUMBER_OR_STRING, "gfx_passthru", HANDED, of=(HVM,))

# -- machines of their own: what xl's have, and ours has or has not whatever a file says ------------------------
PAGING = "`technique` says how memory is virtualized here"
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "hap oos", PAGING, of=(PVH, HVM), quiet=("1",))
_all(Fate.PASSED_OVER, Reads.NUMBER, "shadow_memory", PAGING, of=(PVH, HVM))
MACHINE = "the machine here is as it is: a processor, memory, timers, a serial line, and a kernel to start with"
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "acpi", MACHINE, of=(PVH, HVM), quiet=("1",))
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "pae apic nx", MACHINE, of=(HVM,), quiet=("1",))
_all(Fate.PASSED_OVER, Reads.BOOLEAN,
     "acpi_s3 acpi_s4 acpi_laptop_slate hpet vpt_align altp2mhvm usb vkb_device xen_platform_pci nographic",
     MACHINE, of=(HVM,))  # fmt: skip
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "nestedhvm", MACHINE, of=(PVH, HVM))
_all(Fate.PASSED_OVER, Reads.NUMBER, "mmio_hole stdvga usbversion", MACHINE, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.NUMBER_OR_STRING, "altp2m", MACHINE, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.NUMBER_OR_STRING, "timer_mode", MACHINE, of=(PVH, HVM))
_all(Fate.PASSED_OVER, Reads.BOOLEAN_OR_LIST, "viridian", MACHINE, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.STRING,
     "bios bios_path_override firmware_override acpi_firmware smbios_firmware ms_vm_genid hdtype vga soundhw "
     "vendor_device", MACHINE, of=(HVM,))  # fmt: skip
_all(Fate.PASSED_OVER, Reads.STRING, "boot", "the kernel that the file names is what is booted", of=(HVM,))
_all(Fate.PASSED_OVER, Reads.STRING_OR_LIST, "serial", "the serial line is the console, whatever it says", of=(HVM,),
     quiet=("pty",))  # fmt: skip
_all(Fate.PASSED_OVER, Reads.STRING_OR_LIST, "usbdevice", MACHINE, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.LIST, "mca_caps", MACHINE, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.BOOLEAN,
     "spice spicedisable_ticketing spiceagent_mouse spicevdagent spice_clipboard_sharing", SCREEN,
     of=(HVM,))  # fmt: skip
_all(Fate.PASSED_OVER, Reads.NUMBER, "spiceport spicetls_port spiceusbredirection", SCREEN, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.STRING, "spicehost spicepasswd spice_image_compression spice_streaming_video", SCREEN,
     of=(HVM,))  # fmt: skip
MODEL = "there is no device model here"
_all(Fate.PASSED_OVER, Reads.STRING,
     "device_model device_model_override device_model_version device_model_user device_model_stubdomain_seclabel "
     "stubdomain_kernel stubdomain_cmdline stubdomain_ramdisk", MODEL, of=(HVM,))  # fmt: skip
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "device_model_stubdomain_override", MODEL, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.NUMBER, "stubdomain_memory", MODEL, of=(HVM,))
_all(Fate.PASSED_OVER, Reads.LIST, "device_model_args device_model_args_pv device_model_args_hvm", MODEL, of=(HVM,))
SHIM = "there is no type pvh here, so no shim for one"
_all(Fate.PASSED_OVER, Reads.BOOLEAN, "pvshim", SHIM, of=(PVH,))
_all(Fate.PASSED_OVER, Reads.STRING, "pvshim_path pvshim_cmdline pvshim_extra", SHIM, of=(PVH,))
_all(Fate.PASSED_OVER, Reads.STRING, "gic_version vuart tee device_tree", "domains here are x86 ones", of=(ARM,))
