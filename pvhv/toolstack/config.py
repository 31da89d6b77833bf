# SPDX-License-Identifier: GPL-2.0-or-later
"""What a domain file means: a DomainConfig made of its settings, or everything that is wrong with it.

Keys, their types and what becomes of each are in pvhv.toolstack.keys; values are read as xl reads them
(pvhv.toolstack.values). This file says what the keys that are taken mean, and how they go together. Whatever xl takes
is taken, with the same values. But a file that asks for something a guest would not get is refused, and the error names
all of it.

Read beside it: parse_config_data in tools/xl/xl_parse.c, libxl__domain_build_info_setdefault in
tools/libs/light/libxl_create.c for the defaults.
"""

from __future__ import annotations

import os
import typing
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pvhv.abi.arch_x86 import XEN_LEGACY_MAX_VCPUS
from pvhv.core.sched.timeline import DEFAULT_WEIGHT
from pvhv.core.sched.worker import LATENCY_NS
from pvhv.devices.block.names import linux_minors, number_of
from pvhv.hvm import names as technique_names
from pvhv.toolstack import disk_spec, pc_disks, requests
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.kernel_files import beside, built_kernels, find_kernel
from pvhv.toolstack.keys import ACTIONS, CLOCKS, HVM, KEYS, PV
from pvhv.toolstack.names import LONGEST_NAME, as_bytes, shown, why_not
from pvhv.toolstack.nearest import nearest
from pvhv.toolstack.passed_over import pass_over
from pvhv.toolstack.plainfile import TooLarge, read_plain
from pvhv.toolstack.problems import Place, Problems
from pvhv.toolstack.values import Values
from pvhv.toolstack.xlcfg import Settings, read_argument, read_file

MAX_MEMORY = 1 << 20  # MiB
DEFAULT_MEMORY = 32
DEFAULT_EVENT_CHANNELS = 1023
DEFAULT_DISK_LATENCY = LATENCY_NS // 1000
LONGEST_COMMAND_LINE = 1023
LARGEST_FILE = 1 << 20
MOST_DISKS = 16
NO_FILE = "/dev/null"  # to xl: everything is on the command line
UUID_RULE = "wants a UUID such as 5f0c9d5e-7f1c-4f3e-9a43-0c3f3c7a1e52"
EXAMPLE = "examples/hello.cfg is one to start from"
EVENTS = ("on_poweroff", "on_reboot", "on_crash", "on_watchdog", "on_soft_reset")
BOUNDS = {
    "memory": (1, MAX_MEMORY),
    "maxmem": (1, MAX_MEMORY),
    "vcpus": (1, XEN_LEGACY_MAX_VCPUS),
    "maxvcpus": (1, XEN_LEGACY_MAX_VCPUS),
    "cpu_weight": (1, 65535),
    "max_event_channels": (0, (1 << 31) - 1),
    "max_grant_frames": (1, 64),
    "max_maptrack_frames": (0, 1024),
    "max_grant_version": (1, 2),
    "rtc_timeoffset": (-(1 << 31), (1 << 31) - 1),
    "disk_latency": (0, 1_000_000),
}
CHOICES: dict[str, Iterable[str]] = {
    "type": (PV, HVM),
    "technique": technique_names.NAMES,
    "clock": CLOCKS,
    **dict.fromkeys(EVENTS, ACTIONS),
}


@dataclass
class DomainConfig:
    """A domain file, understood. Memory is in MiB."""

    name: str
    kernel: Path
    type: str = "pv"
    technique: str = technique_names.DEFAULT  # of type hvm
    ramdisk: Path | None = None
    disks: list[DiskConfig] = field(default_factory=list)
    cmdline: str = ""
    memory: int = 64
    maxmem: int = 64
    vcpus: int = 1
    maxvcpus: int = 1
    uuid: str | None = None
    on_poweroff: str = "destroy"
    on_reboot: str = "restart"
    on_crash: str = "preserve"
    on_watchdog: str = "preserve"
    on_soft_reset: str = "soft-reset"
    clock: str = "wall"
    timeline: str | None = None
    disk_latency: int = DEFAULT_DISK_LATENCY  # microseconds of a virtual clock
    cpu_weight: int = DEFAULT_WEIGHT
    max_event_channels: int = DEFAULT_EVENT_CHANNELS
    max_grant_frames: int | None = None  # None: as many as there can be
    max_maptrack_frames: int | None = None
    max_grant_version: int | None = None
    time_offset: int = 0  # seconds
    localtime: bool = False
    given: list[str] = field(default_factory=list)  # the keys the file (or the command line) has
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.maxmem = max(self.memory, self.maxmem)
        self.maxvcpus = max(self.vcpus, self.maxvcpus)

    def make_ephemeral(self) -> None:
        """Have what the domain writes to its disks go with it."""
        self.disks = [disk if disk.readonly else disk._replace(ephemeral="yes") for disk in self.disks]

    def to_wire(self) -> dict[str, Any]:
        """The configuration as plain values, for a message."""
        plain = dict(vars(self))
        plain["kernel"] = str(self.kernel)
        plain["ramdisk"] = str(self.ramdisk) if self.ramdisk else None
        plain["disks"] = [list(disk) for disk in self.disks]
        return plain

    @classmethod
    def from_wire(cls, plain: dict[str, Any]) -> DomainConfig:
        """The reverse of `to_wire`. Raises ToolstackError for a name that only newer code knows, and for a value that
        no domain file gives: the sender need not have read one."""
        unknown = sorted(set(plain) - set(cls.__dataclass_fields__))
        if unknown:
            raise ToolstackError(
                f"pvhvd runs older code than this command: it does not know {', '.join(unknown)}",
                "`pvhv daemon stop` ends it and its domains; the next command starts a new one",
            )
        _check_types(plain)
        ramdisk = plain.get("ramdisk")
        known = {"kernel": Path(plain["kernel"]), "ramdisk": Path(ramdisk) if ramdisk else None}
        made = cls(**{**plain, **known, "disks": [disk_from_wire(disk) for disk in plain.get("disks", ())]})
        _check_values(made)
        return made


def load(path: str | os.PathLike[str], arguments: Sequence[str] = ()) -> DomainConfig:
    """The domain a file describes; settings of the command line come before the file's. Raises one ToolstackError that
    has all errors."""
    problems = Problems()
    settings = {} if os.fspath(path) == NO_FILE else read_file(_text_of(path, problems), str(path), problems)
    for argument in arguments:
        read_argument(argument, settings, problems)
    return interpret(settings, Path(path), problems)


def _text_of(path: str | os.PathLike[str], problems: Problems) -> str:
    if not os.fspath(path):
        raise ToolstackError("the name of the domain file is empty", EXAMPLE, status=2)
    try:
        data = bytes(read_plain(path, LARGEST_FILE))
    except FileNotFoundError:
        raise ToolstackError(f"there is no domain file {path}", EXAMPLE) from None
    except IsADirectoryError:
        raise ToolstackError(f"{path} is a directory, not a domain file") from None
    except TooLarge:
        raise ToolstackError(f"{path} is larger than any domain file") from None
    except ValueError:
        raise ToolstackError(f"{os.fspath(path)!a} is not a file name") from None
    except OSError as error:
        raise ToolstackError(f"cannot read the domain file {path}: {error.strerror}") from None
    # Bytes that are no UTF-8 are nobody's business in a comment or in a string that is handed on: xl takes them.
    text = data.decode("utf-8-sig", "surrogateescape")
    if "\0" in text and not _reads_as_text(text, path):
        raise ToolstackError(
            f"{path} is not text, so it is not a domain file", "a kernel is named inside one: kernel = ..."
        )
    return text


def _reads_as_text(text: str, path: str | os.PathLike[str]) -> bool:
    """Whether a text with NUL characters can be read: xl takes them in a comment."""
    first = Problems()
    return bool(read_file(text, str(path), first)) or not first.errors


def interpret(settings: Settings, file: Path, problems: Problems) -> DomainConfig:
    """A DomainConfig from settings; `file` is where relative paths start from."""
    for setting in settings.values():
        if setting.replaces:
            problems.warn(
                setting.place, f"'{setting.key}' is given a second time; the first ({setting.replaces}) is passed over"
            )
    found = Values(settings, problems)
    kind = _type(found)
    pass_over(found, kind)
    memory, maxmem = _memory(found)
    vcpus, maxvcpus = _vcpus(found)
    clock, timeline = _time(found)
    config = DomainConfig(
        name=_name(found, file),
        kernel=_file(found, "kernel", lambda text, place: find_kernel(text, file.parent, place)) or Path(),
        type=kind,
        technique=_one_of(found, "technique", technique_names.NAMES, status=2) or technique_names.DEFAULT,
        ramdisk=_file(found, "ramdisk", lambda text, place: beside(text, file.parent, place)),
        disks=_disks(found, file),
        cmdline=_command_line(found),
        memory=memory,
        maxmem=maxmem,
        vcpus=vcpus,
        maxvcpus=maxvcpus,
        uuid=_uuid(found),
        clock=clock,
        timeline=timeline,
        cpu_weight=_bounded(found, "cpu_weight") or DEFAULT_WEIGHT,
        max_event_channels=_bounded(found, "max_event_channels") or DEFAULT_EVENT_CHANNELS,  # 0 is nothing, to libxl
        max_grant_frames=_limit(found, "max_grant_frames"),
        max_maptrack_frames=_limit(found, "max_maptrack_frames"),
        max_grant_version=_limit(found, "max_grant_version"),
        time_offset=_bounded(found, "rtc_timeoffset") or 0,
        localtime=_local_time(found, clock),
        disk_latency=_disk_latency(found, clock),
    )
    for event in EVENTS:
        if (chosen := _one_of(found, event, ACTIONS)) is not None:
            setattr(config, event, chosen)
    config.given = sorted(key for key in settings if key in KEYS and key not in found.ignored)
    if "on_crash" in config.given and "on_watchdog" not in config.given:
        config.on_watchdog = config.on_crash
        config.given.append("on_watchdog")
    if not found.string("kernel"):
        wanted = "guest-native" if kind == HVM else "guest-pv"
        kernel = wanted if wanted in built_kernels() else "..."
        problems.error(Place(str(file)), "no kernel is named", f'add a line: kernel = "{kernel}"')
    _check_kind(found, config)
    problems.refuse_if_any()
    config.warnings = problems.told()
    return config


# -- single keys ---------------------------------------------------------------------------------------------
def _type(found: Values) -> str:
    """pv or hvm. As in xl, a beginning of a word is enough, and the words are tried in this order."""
    words = (("hvm", HVM), ("pv", PV), ("pvh", "pvh"))
    old = (("hvm", HVM), ("generic", PV), ("linux", PV))
    kinds = {}
    for key, meanings in (("type", words), ("builder", old)):
        text = found.string(key)
        if text is None:
            continue
        kind = next((kind for word, kind in meanings if word.startswith(text)), None)
        if kind == "pvh":
            found.problems.error(
                found.place(key), f"'{key}': \"pvh\" is not here", 'a kernel with a PVH entry runs with type = "hvm"'
            )
        elif kind is None and text in ("generic", "linux"):
            kind = PV
        elif kind is None:
            there = 'there are "pv" (paravirtual) and "hvm" (fully virtualized)'
            found.problems.error(found.place(key), f"'{key}': \"{shown(text)}\" is not here: {there}")
        if kind in (PV, HVM):
            kinds[key] = kind
    if len(set(kinds.values())) > 1:
        found.problems.error(found.place("builder"), "'builder' and 'type' contradict each other", "leave builder out")
    return kinds.get("type", kinds.get("builder", PV))


def _name(found: Values, file: Path) -> str:
    name = found.string("name")
    if not name:
        stem = "domain" if str(file) == NO_FILE else file.stem
        return stem if 0 < len(as_bytes(stem)) <= LONGEST_NAME else "domain"
    if reason := why_not(name):
        found.problems.error(found.place("name"), f"'name' {reason}")
    return name


def _uuid(found: Values) -> str | None:
    text = found.string("uuid")
    if text is None:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        found.problems.error(found.place("uuid"), f"'uuid' {UUID_RULE}")
        return None


def _file(found: Values, key: str, find: Callable[[str, str], Path]) -> Path | None:
    text = found.string(key)
    if not text:
        return None
    place = found.place(key)
    try:
        return find(text, str(place))
    except ToolstackError as error:
        found.problems.error(place, error.message.removeprefix(f"{place}: "), error.hint)
        return None


def _disks(found: Values, file: Path) -> list[DiskConfig]:
    disks: list[DiskConfig] = []
    unsure: list[str] = []
    texts = found.items("disk") or ()
    for text in texts[: MOST_DISKS + 1]:
        place = found.place("disk")
        try:
            disks.append(disk_spec.parse(text, file.parent, unsure.append))
        except ToolstackError as error:
            found.problems.error(place, f"'disk': {error.message}", error.hint)
    for what in unsure:
        found.problems.warn(found.place("disk"), f"'disk': {what}")
    if reason := why_not_all(disks):
        found.problems.error(found.place("disk"), f"'disk': {reason}")
    return disks


def why_not_all(disks: Sequence[DiskConfig]) -> str:
    """Why a domain cannot have these together; empty where it can."""
    if len(disks) > MOST_DISKS:
        return f"a domain has {MOST_DISKS} disks at most"
    names: dict[int | str, str] = {}
    for disk in disks:
        number = number_of(disk.vdev) or disk.vdev
        if number in names:
            other = names[number]
            return f"two of them are {other}" + ("" if other == disk.vdev else f", which is {disk.vdev} as well")
        names[number] = disk.vdev
    return ""


def _both_linux_has_not(disks: Sequence[DiskConfig]) -> str:
    """Which two of a paravirtual domain's disks Linux cannot have together; empty where it can."""
    taken: dict[int, str] = {}
    for disk in disks:
        for minor in linux_minors(number_of(disk.vdev) or 0) or ():
            if taken.setdefault(minor, disk.vdev) != disk.vdev:
                return f"Linux makes one disk of {taken[minor]} and {disk.vdev}, and does without the other"
    return ""


def _why_not_of_kind(config: DomainConfig) -> tuple[str, str] | None:
    """Why a domain of its type cannot have its disks, and a hint; None where it can."""
    if config.type == HVM:
        return pc_disks.why_not(config.disks)
    for disk in config.disks:
        if number_of(disk.vdev) is None:
            return f"a paravirtual domain has no disk {disk.vdev}", "use xvda, xvdb and so on"
    return None


def _command_line(found: Values) -> str:
    line, root, extra = (found.string(key) for key in ("cmdline", "root", "extra"))
    if line is not None:
        for key, text in (("root", root), ("extra", extra)):
            if text is not None:
                found.problems.warn(found.place(key), f"'{key}' is passed over, as xl does: there is a cmdline")
    else:
        parts = [f"root={root}"] if root is not None else []
        line = " ".join(parts + ([extra] if extra is not None else []))
    if len(as_bytes(line)) > LONGEST_COMMAND_LINE:
        text = f"the command line is longer than the {LONGEST_COMMAND_LINE} bytes start_info has room for"
        found.problems.error(found.place("cmdline", "extra", "root"), text)
    return line


def _bounded(found: Values, key: str, unit: str = "") -> int | None:
    number, (low, high) = found.number(key), BOUNDS[key]
    if number is not None and not low <= number <= high:
        found.problems.error(found.place(key), f"'{key}' must lie between {low} and {high}{unit}")
        return None
    return number


def _limit(found: Values, key: str) -> int | None:
    """A number that has to be one, as in xl: any other value is an error."""
    number, (low, high) = _bounded(found, key), BOUNDS[key]
    if key in found.ignored:
        found.problems.error(found.place(key), f"'{key}' has to be a number from {low} to {high}")
    return number


def _one_of(found: Values, key: str, words: Iterable[str], status: int = 1) -> str | None:
    text = found.string(key)
    if text is None or text in words:
        return text
    close = nearest(text, words)
    found.problems.error(
        found.place(key),
        f"'{key}' is one of {', '.join(words)}" + (f"; did you mean {close}?" if close else ""),
        status=status,
    )
    return None


def _local_time(found: Values, clock: str) -> bool:
    local = bool(found.boolean("localtime"))
    if local and clock == "virtual":
        found.problems.warn(
            found.place("localtime"), "'localtime' is passed over: a virtual clock is the same everywhere"
        )
        return False
    return local


def _disk_latency(found: Values, clock: str) -> int:
    latency = _bounded(found, "disk_latency", " (of microseconds)")
    if latency is not None and clock == "wall":
        found.problems.warn(
            found.place("disk_latency"),
            "'disk_latency' is passed over: on the wall clock a disk takes as long as it takes",
        )
        return DEFAULT_DISK_LATENCY
    return DEFAULT_DISK_LATENCY if latency is None else latency


# -- keys that go together -----------------------------------------------------------------------------------
def _memory(found: Values) -> tuple[int, int]:
    """MiB the domain starts with, and MiB it may grow to."""
    now, most = (_bounded(found, key, " (of MiB)") for key in ("memory", "maxmem"))
    if now is None:
        now = most or DEFAULT_MEMORY
    if most is not None and most < now:
        found.problems.warn(found.place("maxmem"), f"maxmem = {most} is less than memory = {now}, which it becomes")
    return now, max(now, most or now)


def _vcpus(found: Values) -> tuple[int, int]:
    """How many vCPUs the domain starts with, and how many it may bring up: not fewer, as in xl. 0 counts as not
    given."""
    now, most = (
        None if found.number(key) == 0 else _bounded(found, key) for key in ("vcpus", "maxvcpus")
    )
    if now is not None and most is not None and most < now:
        found.problems.error(
            found.place("maxvcpus"),
            f"maxvcpus = {most} is less than vcpus = {now} ({found.place('vcpus')})",
            "maxvcpus is how many vCPUs the domain may bring up; without it, that is vcpus",
        )
        most = now
    return now or 1, most or now or 1


def _time(found: Values) -> tuple[str, str | None]:
    clock, timeline = _one_of(found, "clock", CLOCKS), found.string("timeline")
    if timeline and (reason := why_not(timeline)):
        found.problems.error(found.place("timeline"), f"'timeline' {reason}")
    if timeline and clock == "wall":
        found.problems.error(
            found.place("timeline"),
            "'timeline' names a virtual clock, but clock = \"wall\"",
            'say clock = "virtual", or leave timeline out',
        )
    return clock or ("virtual" if timeline else "wall"), timeline or None


def _check_kind(found: Values, config: DomainConfig) -> None:
    """Refuse what the domain's type does not have."""
    settings, error = found.settings, found.problems.error
    if reason := _why_not_of_kind(config):
        error(found.place("disk"), f"'disk': {reason[0]}", reason[1])
    if config.type == PV:
        if what := _both_linux_has_not(config.disks):
            found.problems.warn(found.place("disk"), f"'disk': {what}")
        if "technique" in settings:
            text, hint = "'technique' is for fully virtualized domains", 'say type = "hvm", or leave it out'
            error(found.place("technique"), text, hint)
        return
    if config.maxvcpus > 1:
        error(found.place("maxvcpus", "vcpus"), "a fully virtualized domain has one vCPU here")
    if config.maxmem > config.memory:
        error(found.place("maxmem"), "a fully virtualized domain cannot grow; leave maxmem out")
    if "timeline" in settings:
        error(
            found.place("timeline"), "a fully virtualized domain has a timeline to itself", 'say clock = "virtual"'
        )


# -- what comes by a message ---------------------------------------------------------------------------------
_HINTS = {**typing.get_type_hints(DomainConfig), "kernel": str, "ramdisk": str | None, "disks": list[list[str]]}


def _check_types(plain: dict[str, Any]) -> None:
    """Check the names and types of a configuration's fields. Raises ToolstackError."""
    if missing := [name for name in ("name", "kernel") if name not in plain]:
        raise ToolstackError(f"a domain's configuration has to have its {' and its '.join(missing)}")
    for name, value in plain.items():
        if not requests.fits(value, _HINTS[name]):
            raise ToolstackError(f"a domain's '{name}' has to be {requests.in_words(_HINTS[name])}")


def disk_from_wire(plain: Sequence[str]) -> DiskConfig:
    """A disk of a configuration's plain values. Raises ToolstackError."""
    if len(plain) != len(DiskConfig._fields):
        raise ToolstackError(f"a domain's disk has {', '.join(DiskConfig._fields)}, and nothing else")
    disk = DiskConfig(*plain)
    if not disk.usable:
        raise ToolstackError("one of a domain's 'disks' is none that a domain file comes to")
    return disk


def _check_values(config: DomainConfig) -> None:
    """Check that a domain file could give these values. Raises ToolstackError."""
    values = {**vars(config), "rtc_timeoffset": config.time_offset}
    for key, (low, high) in BOUNDS.items():
        number = values[key]
        if number is not None and not low <= number <= high:
            raise ToolstackError(f"a domain's '{key}' must lie between {low} and {high}")
    for key, words in CHOICES.items():
        if values[key] not in words:
            raise ToolstackError(f"a domain's '{key}' is one of {', '.join(words)}")
    for key in ("name", "timeline"):
        if values[key] is not None and (reason := why_not(values[key])):
            raise ToolstackError(f"a domain's '{key}' {reason}")
    for key in ("kernel", "ramdisk"):
        if "\0" in str(values[key]):
            raise ToolstackError(f"a domain's '{key}' is not a file name: it has a NUL character in it")
    if len(as_bytes(config.cmdline)) > LONGEST_COMMAND_LINE:
        raise ToolstackError(f"a domain's 'cmdline' has {LONGEST_COMMAND_LINE} bytes at most")
    if config.uuid is not None:
        try:
            config.uuid = str(uuid.UUID(config.uuid))
        except ValueError:
            raise ToolstackError(f"a domain's 'uuid' {UUID_RULE}") from None
    if config.timeline and config.clock == "wall":
        raise ToolstackError("a domain's 'timeline' names a virtual clock, but its clock is wall")
    if reason := why_not_all(config.disks):
        raise ToolstackError(f"a domain's 'disks': {reason}")
    if reasons := _why_not_of_kind(config):
        raise ToolstackError(*reasons)
    if config.type == HVM and (config.maxvcpus > 1 or config.maxmem > config.memory or config.timeline):
        raise ToolstackError("a fully virtualized domain has one vCPU, cannot grow, and has a timeline to itself")
