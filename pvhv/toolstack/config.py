# SPDX-License-Identifier: GPL-2.0-or-later
"""What a domain file means: the keys, their types and bounds, and a DomainConfig made of them.

`KEYS` is the one list of what a file may say. A key xl knows and pvhv has nothing behind is in
`NOT_MODELLED` with what to do about it: one that only tunes performance is passed over with a warning, one
that promises a device is an error unless its value is empty, because a guest without its disk is not what
its file says. Any other key is a mistake, answered with its line and the nearest key there is.

Paths in a file are relative to that file. A kernel given without a directory that is not beside the file
names one of the kernels that came with pvhv, or (as a ramdisk does) one that was fetched.

Read beside it: xl.cfg(5), tools/xl/xl_parse.c.
"""

from __future__ import annotations

import difflib
import os
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pvhv
from pvhv.hvm import names as technique_names
from pvhv.toolstack import fetched
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.plainfile import TooLarge, read_plain
from pvhv.toolstack.xlcfg import Setting, Source, Value, parse, type_name

ACTIONS = ("destroy", "restart", "rename-restart", "preserve")
CLOCKS = ("wall", "virtual")
MAX_VCPUS = 32  # XEN_LEGACY_MAX_VCPUS: those with a vcpu_info in shared_info
MAX_MEMORY = 1 << 20  # MiB
NAME = re.compile(r"[A-Za-z0-9_.:+-]+")
LONGEST_NAME = 128  # it stands in every message and every list
LARGEST_FILE = 1 << 20
EXAMPLE = "examples/hello.cfg is one to start from"
KERNELS = Path(pvhv.__file__).parent / "_built" / "kernels"
TRUE_WORDS, FALSE_WORDS = ("1", "yes", "true", "on"), ("0", "no", "false", "off")


@dataclass
class DomainConfig:
    """A domain file, understood. Memory is in MiB."""

    name: str
    kernel: Path
    type: str = "pv"
    technique: str = technique_names.DEFAULT  # of type hvm
    ramdisk: Path | None = None
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
    clock: str = "wall"
    timeline: str | None = None
    cpu_weight: int = 256
    given: list[str] = field(default_factory=list)  # the keys the file (or the command line) has
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.maxmem = max(self.memory, self.maxmem)
        self.maxvcpus = max(self.vcpus, self.maxvcpus)

    def to_wire(self) -> dict[str, Any]:
        """Plain values, for a message."""
        plain = dict(vars(self))
        plain["kernel"] = str(self.kernel)
        plain["ramdisk"] = str(self.ramdisk) if self.ramdisk else None
        return plain

    @classmethod
    def from_wire(cls, plain: dict[str, Any]) -> DomainConfig:
        """The reverse of `to_wire`. Raises ToolstackError for what only newer code has a name for."""
        unknown = sorted(set(plain) - set(cls.__dataclass_fields__))
        if unknown:
            raise ToolstackError(
                f"pvhvd runs older code than this command: it does not know {', '.join(unknown)}",
                "`pvhv daemon stop` ends it and its domains; the next command starts a new one",
            )
        ramdisk = plain["ramdisk"]
        return cls(
            **{**plain, "kernel": Path(plain["kernel"]), "ramdisk": Path(ramdisk) if ramdisk else None}
        )


class Key(NamedTuple):
    """A key of the file: what turns its value into a DomainConfig's, or raises ValueError with the rule."""

    meaning: Callable[[Value], Any]
    doc: str
    status: int = 1  # the command's, when the value is wrong


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wants a string in quotes, not {type_name(value)}")
    if "\0" in value:
        raise ValueError("has a NUL character in it: whoever reads it would take that for its end")
    return value


def _name(value: Value) -> str:
    text = str(value) if isinstance(value, int) else _text(value)
    if not NAME.fullmatch(text):
        raise ValueError("may hold letters, digits and _.:+- only")
    if len(text) > LONGEST_NAME:
        raise ValueError(f"may have {LONGEST_NAME} characters at most")
    if text.startswith("-"):
        raise ValueError("may not begin with -: it would be taken for an option")
    if text.isdecimal():
        raise ValueError("may not be a number: it would be taken for a domain id")
    return text


def check_name(name: str) -> None:
    """Raises ToolstackError when a domain cannot be called that."""
    try:
        _name(name)
    except ValueError as rule:
        raise ToolstackError(f"'{name}' cannot be a domain's name: it {rule}", status=2) from None


def _number(low: int, high: int, unit: str = "") -> Callable[[Value], int]:
    def meaning(value: Value) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            value = int(value)  # xl takes a number in quotes as well
        if not isinstance(value, int):
            raise ValueError(f"wants a number{unit}, not {type_name(value)}")
        if not low <= value <= high:
            raise ValueError(f"must lie between {low} and {high}{unit}")
        return value

    return meaning


def _one_of(words: Iterable[str]) -> Callable[[Value], str]:
    def meaning(value: Value) -> str:
        text = _text(value)
        if text not in words:
            nearest = difflib.get_close_matches(text, words, 1)
            raise ValueError(
                f"is one of {', '.join(words)}" + (f"; did you mean {nearest[0]}?" if nearest else "")
            )
        return text

    return meaning


def _type(value: Value) -> str:
    text = _text(value)
    if text == "pvh":
        raise ValueError('"pvh" is not here; a kernel with a PVH entry runs with type = "hvm"')
    if text not in ("pv", "generic", "linux", "hvm"):
        raise ValueError(f'"{text}" is not here: there are "pv" (paravirtual) and "hvm" (a machine of its own)')
    return "hvm" if text == "hvm" else "pv"


def _uuid(value: Value) -> str:
    try:
        return str(uuid.UUID(_text(value)))
    except ValueError:
        raise ValueError("wants a UUID such as 5f0c9d5e-7f1c-4f3e-9a43-0c3f3c7a1e52") from None


KEYS: dict[str, Key] = {
    "name": Key(_name, "what the domain is called; the file's own name by default"),
    "uuid": Key(_uuid, "the domain's handle"),
    "type": Key(_type, '"pv": paravirtual, or "hvm": fully virtualized'),
    "builder": Key(_type, 'the old word for type: "generic" or "linux" for pv, or "hvm"'),
    # A name of ours, not of xl's: wrong as it is to `pvhv compare`.
    "technique": Key(_one_of(technique_names.NAMES), "how a domain of type hvm is virtualized", status=2),
    "kernel": Key(_text, "an ELF with Xen notes, Linux as distributions pack it, or the name of a kernel that is here"),
    "ramdisk": Key(_text, "handed to the kernel as its module"),
    "cmdline": Key(_text, "the kernel's command line"),
    "root": Key(_text, "with extra, the old way to write cmdline: root=..."),
    "extra": Key(_text, "appended to root"),
    "memory": Key(_number(1, MAX_MEMORY, " (of MiB)"), "MiB the domain starts with"),
    "maxmem": Key(_number(1, MAX_MEMORY, " (of MiB)"), "MiB it may grow to; memory by default"),
    "vcpus": Key(_number(1, MAX_VCPUS), "virtual processors"),
    "maxvcpus": Key(_number(1, MAX_VCPUS), "virtual processors it may bring up; vcpus by default"),
    "cpu_weight": Key(_number(1, 65535), "its share of the processor; 256 is everybody's"),
    "on_poweroff": Key(_one_of(ACTIONS), "what happens after a poweroff; destroy by default"),
    "on_reboot": Key(_one_of(ACTIONS), "after a reboot; restart by default"),
    "on_crash": Key(
        _one_of(ACTIONS), "after a crash; preserve by default, so that there is something to look at"
    ),
    "on_watchdog": Key(_one_of(ACTIONS), "after its watchdog bit; what on_crash says by default"),
    "clock": Key(_one_of(CLOCKS), '"wall", or "virtual": time is instructions executed, every run the same'),
    "timeline": Key(_name, "domains that name the same timeline share one virtual clock"),
}

TUNING = "it tunes a machine; there is none here to tune"
NO_DEVICE = "there is no such device here yet; remove the line"
NO_BOOTLOADER = "there is no bootloader: name the guest's kernel with kernel = ..."
TUNING_KEYS = """
    cap cpus cpus_soft pool nomigrate localtime rtc_timeoffset tsc_mode max_grant_frames
    max_maptrack_frames max_event_channels driver_domain seclabel keymap claim_mode vnuma e820_host pae acpi
    apic nx serial device_model_version on_soft_reset
"""
DEVICE_KEYS = """
    disk vif vfb vkb vtpm p9 pci usbctrl usbdev channel vdispl vsnd pvcalls dtdev irqs ioports iomem vnc sdl
    firmware
"""
# Key -> (whether a value that says anything is an error, what to tell).
NOT_MODELLED: dict[str, tuple[bool, str]] = {
    **dict.fromkeys(TUNING_KEYS.split(), (False, TUNING)),
    **dict.fromkeys(DEVICE_KEYS.split(), (True, NO_DEVICE)),
    **dict.fromkeys(("bootloader", "bootloader_args"), (True, NO_BOOTLOADER)),
}


def load(path: str | os.PathLike[str], arguments: Iterable[Setting] = ()) -> DomainConfig:
    """The domain a file describes, with the settings of a command line over it."""
    if not os.fspath(path):
        raise ToolstackError("no domain file is named: its name is empty", EXAMPLE, status=2)
    try:
        data = bytes(read_plain(path, LARGEST_FILE))
    except FileNotFoundError:
        raise ToolstackError(f"there is no domain file {path}", EXAMPLE) from None
    except IsADirectoryError:
        raise ToolstackError(f"{path} is a directory, not a domain file") from None
    except TooLarge:
        raise ToolstackError(f"{path} is larger than any domain file") from None
    except OSError as error:
        raise ToolstackError(f"cannot read the domain file {path}: {error.strerror}") from None
    settings = parse(Source(_decoded(data, path), str(path)))
    for setting in arguments:
        settings[setting.key] = setting
    return interpret(settings, Path(path))


def _decoded(data: bytes, path: str | os.PathLike[str]) -> str:
    try:
        text = data.decode("utf-8-sig")
        if "\0" not in text:
            return text
    except UnicodeDecodeError as error:
        if b"\0" not in data:
            line = data.count(b"\n", 0, error.start) + 1
            raise ToolstackError(
                f"{path}:{line}: byte {data[error.start]:#04x} is not UTF-8", "save the file as UTF-8"
            ) from None
    raise ToolstackError(
        f"{path} is not text, so it is no domain file", "a kernel is named inside one: kernel = ..."
    )


def interpret(settings: dict[str, Setting], file: Path) -> DomainConfig:
    """A DomainConfig from settings; `file` is where relative paths start from."""
    warnings = [
        f"{setting.place}: '{setting.key}' is given a second time; the first ({setting.replaces}) is passed over"
        for setting in settings.values()
        if setting.replaces
    ]
    values: dict[str, Any] = {}
    for key, setting in settings.items():
        known = KEYS.get(key)
        if known is None:
            _without(setting, warnings)
            continue
        try:
            values[key] = known.meaning(setting.value)
        except ValueError as rule:
            raise ToolstackError(f"{setting.place}: '{key}' {rule}", status=known.status) from None
    if not values.get("kernel"):
        raise ToolstackError(
            f"{file}: no kernel is named", f'add a line: kernel = "{(built_kernels() or ["..."])[0]}"'
        )
    memory, maxmem = _now_and_at_most(settings, values, "memory", "maxmem", values.get("maxmem", 64))
    vcpus, maxvcpus = _now_and_at_most(settings, values, "vcpus", "maxvcpus", 1)
    clock, timeline = _time(settings, values)
    kind = values.get("type", values.get("builder", "pv"))
    _check_kind(kind, settings, vcpus=maxvcpus, growth=maxmem - memory)
    config = DomainConfig(
        name=values.get("name") or _name_of(file),
        kernel=find_kernel(values["kernel"], file.parent, settings["kernel"].place),
        type=kind,
        technique=values.get("technique", technique_names.DEFAULT),
        ramdisk=_beside(values["ramdisk"], file.parent, settings["ramdisk"].place)
        if values.get("ramdisk")
        else None,
        cmdline=_command_line(settings, values),
        memory=memory,
        maxmem=maxmem,
        vcpus=vcpus,
        maxvcpus=maxvcpus,
        uuid=values.get("uuid"),
        clock=clock,
        timeline=timeline,
        cpu_weight=values.get("cpu_weight", 256),
        given=sorted(values),
        warnings=warnings,
    )
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        setattr(config, event, values.get(event, getattr(config, event)))
    config.on_watchdog = values.get("on_watchdog", config.on_crash)
    if "on_crash" in values and "on_watchdog" not in values:
        config.given.append("on_watchdog")
    return config


def _check_kind(kind: str, settings: dict[str, Setting], *, vcpus: int, growth: int) -> None:
    """What only one type of domain has."""

    def place(*keys: str) -> str:
        return next(settings[key].place for key in keys if key in settings)

    if kind == "pv" and "technique" in settings:
        raise ToolstackError(
            f"{place('technique')}: 'technique' is for fully virtualized domains", 'say type = "hvm", or leave it out'
        )
    if kind == "hvm" and vcpus > 1:
        raise ToolstackError(f"{place('maxvcpus', 'vcpus')}: a fully virtualized domain has one vCPU here")
    if kind == "hvm" and growth:
        raise ToolstackError(f"{place('maxmem')}: a fully virtualized domain cannot grow; leave maxmem out")
    if kind == "hvm" and "timeline" in settings:
        raise ToolstackError(
            f"{place('timeline')}: a fully virtualized domain has a timeline to itself", 'say clock = "virtual"'
        )


def _now_and_at_most(
    settings: dict[str, Setting], values: dict[str, Any], key: str, limit: str, default: int
) -> tuple[int, int]:
    """What a domain starts with of something, and how much of it there may ever be: not less, as in xl."""
    now: int = values.get(key, default)
    most: int = values.get(limit, now)
    if most < now:
        raise ToolstackError(
            f"{settings[limit].place}: {limit} = {most} is less than {key} = {now} ({settings[key].place})",
            f"{limit} is what the domain may grow to; leave it out where that is {key}",
        )
    return now, most


def _name_of(file: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_.:+-]", "-", file.stem)[: LONGEST_NAME - len("domain-")]
    return f"domain-{name}" if name.isdecimal() or name.startswith("-") else name


def _without(setting: Setting, warnings: list[str]) -> None:
    """A key with nothing behind it: warn, or refuse."""
    if setting.key in NOT_MODELLED:
        fatal, why = NOT_MODELLED[setting.key]
        if fatal and setting.value not in ([], "", 0, [""]):
            raise ToolstackError(f"{setting.place}: pvhv does not know '{setting.key}'", why)
        if not fatal:
            warnings.append(f"{setting.place}: '{setting.key}' is passed over: {why}")
        return
    everything = [*KEYS, *NOT_MODELLED]
    nearest = difflib.get_close_matches(setting.key, KEYS, 1, 0.6) or difflib.get_close_matches(
        setting.key, everything, 1, 0.6
    )
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known keys: {', '.join(KEYS)}"
    raise ToolstackError(f"{setting.place}: unknown key '{setting.key}'", hint)


def _time(settings: dict[str, Setting], values: dict[str, Any]) -> tuple[str, str | None]:
    timeline = values.get("timeline")
    if timeline and values.get("clock") == "wall":
        raise ToolstackError(
            f"{settings['timeline'].place}: 'timeline' names a virtual clock, but clock = \"wall\"",
            'say clock = "virtual", or leave timeline out',
        )
    return values.get("clock", "virtual" if timeline else "wall"), timeline


def _command_line(settings: dict[str, Setting], values: dict[str, Any]) -> str:
    if "cmdline" in values:
        line = values["cmdline"]
    else:
        parts = [f"root={values['root']}"] if "root" in values else []
        line = " ".join(parts + ([values["extra"]] if "extra" in values else []))
    if len(as_bytes(line)) > 1023:
        place = settings.get("cmdline", settings.get("extra", settings.get("root")))
        where = f"{place.place}: " if place else ""
        raise ToolstackError(f"{where}the command line is longer than the 1023 bytes start_info has room for")
    return str(line)


def as_bytes(line: str) -> bytes:
    """A command line as the guest gets it: UTF-8, and what a shell gave us that is none, as it came."""
    return line.encode("utf-8", "surrogateescape")


def built_kernels() -> list[str]:
    """The kernels that came with pvhv: the guest one begins with, other guests, benchmarks, tests."""
    if not KERNELS.is_dir():
        return []
    names = [entry.name for entry in KERNELS.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    return sorted(
        names, key=lambda name: (name != "guest-pv", name.startswith("test-"), not name.startswith("guest-"), name)
    )


def find_kernel(text: str, directory: Path, place: str) -> Path:
    """The file a `kernel` value names."""
    path = directory / os.path.expanduser(text)
    if path.is_file():
        return path.absolute()
    if os.sep not in text and "/" not in text:
        built = KERNELS / text
        if built.is_file():
            return built
        if path.exists():
            return _beside(text, directory, place)  # which says what it is
        if (kept := fetched.find(text)) is not None:
            return kept
        names = built_kernels()
        nearest = difflib.get_close_matches(text, names, 1)
        if hint := fetched.hint(text):
            raise ToolstackError(f"{place}: the kernel '{text}' was not fetched yet", hint)
        if nearest:
            hint = f"did you mean the built-in '{nearest[0]}'?"
        elif names:
            shown = [name for name in names if not name.startswith("test-")] or names[:5]
            hint = f"kernels that came with pvhv: {', '.join(shown)}"
        else:
            hint = "the kernels of this checkout are not built: python3 tools/dev.py build"
        raise ToolstackError(f"{place}: no kernel '{text}' beside the file, and none built in", hint)
    return _beside(text, directory, place)


def _beside(text: str, directory: Path, place: str) -> Path:
    path = directory / os.path.expanduser(text)
    if path.is_dir():
        raise ToolstackError(f"{place}: {path} is a directory")
    if not path.is_file():
        if path.exists():
            raise ToolstackError(f"{place}: {path} is not a plain file")
        if (kept := fetched.find(text)) is not None:
            return kept
        if hint := fetched.hint(text):
            raise ToolstackError(f"{place}: '{text}' was not fetched yet", hint)
        raise ToolstackError(f"{place}: there is no file {path}")
    return path.absolute()
