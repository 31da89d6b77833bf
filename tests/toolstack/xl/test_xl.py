# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain file that Debian's xl takes is taken here, with the same values: xl itself is asked (judge.py).

What is refused here although xl takes it is one of the reasons in `MAY_REFUSE`: a guest would not get what it needs.
What xl cannot read cannot be read here either, but for what `LENIENT` lists.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from pvhv.devices.block.names import number_of
from pvhv.toolstack import config
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.keys import KEYS, Fate, Reads
from pvhv.toolstack.problems import Problem, Problems
from tests.toolstack.xl import corpus
from tests.toolstack.xl.judge import HOW_TO_GET_IT, MANUAL, PROGRAM, Judge

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason=HOW_TO_GET_IT)

# The keys whose problems keep a domain from being made that xl would make: its words must be among these.
MAY_REFUSE: dict[str, str | tuple[str, ...]] = {
    "type": '"pvh" is not here',
    "memory": "must lie between 1 and",
    "maxmem": "must lie between 1 and",
    "vcpus": "must lie between 1 and 32",
    "maxvcpus": "must lie between 1 and 32",
    "cpu_weight": "must lie between 1 and 65535",
    "max_event_channels": "must lie between",
    "max_grant_frames": "must lie between 1 and 64",
    "max_maptrack_frames": "must lie between 0 and 1024",
    "max_grant_version": "must lie between 1 and 2",
    "rtc_timeoffset": "must lie between",
    "cmdline": "longer than the 1023 bytes",
    "extra": "longer than the 1023 bytes",
    "root": "longer than the 1023 bytes",
    "name": "may have 1024 bytes at most",
    "kernel": "no kernel",  # or no file: xl looks for it later
    "ramdisk": "there is no file",
    "disk": ("here yet", "there is no file", "cannot look for", "two of them are", "no target", "no vdev",
             "is not the name of a disk", "'backendtype'", "'backend'", "'script'", "its format is empty"),
    **{name: key.doc for name, key in KEYS.items() if key.fate is Fate.REFUSED},
}
# What we read and xl does not: a byte order mark, a carriage return, \xHH in a string, a comment without a line end.
LENIENT = re.compile(rb"^\xef\xbb\xbf|\r|\\x[0-9a-fA-F]|#[^\n]*\Z")
HVM_ONLY = ("a fully virtualized domain has one vCPU here", "a fully virtualized domain cannot grow")
TYPES = {
    Reads.STRING: {"string"}, Reads.NUMBER: {"number"}, Reads.BOOLEAN: {"boolean", "number"}, Reads.LIST: {"list"},
    Reads.STRING_OR_LIST: {"string", "list"}, Reads.NUMBER_OR_STRING: {"number", "string"},
    Reads.BOOLEAN_OR_LIST: {"boolean", "number", "list"},
}  # fmt: skip


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    made = Judge(tmp_path_factory.mktemp("xl"))
    for name in ("guest-pv", "a", "x"):
        (made.work / name).touch()  # kernels are looked for here
    return made


def ours(judge: Judge, arguments: Iterable[str] = ()) -> tuple[DomainConfig | None, list[Problem]]:
    """What we make of it: a configuration, or what is wrong."""
    path = judge.asked  # which has it already
    problems = Problems()
    try:
        settings = config.read_file(config._text_of(path, problems), "asked.cfg", problems)
        for argument in arguments:
            config.read_argument(argument, settings, problems)
        return config.interpret(settings, path, problems), []
    except ToolstackError as error:
        assert problems.errors, error  # whatever it is, it names a line
        return None, problems.errors


def values(found: dict[str, Any]) -> dict[str, Any]:
    """What xl says a domain is, as far as it is something here."""
    about, build = found["c_info"], found["b_info"]
    actions = {
        event: found.get(event, "destroy").replace("restart_rename", "rename-restart").replace("_", "-")
        for event in config.EVENTS
    }
    return {
        "name": about.get("name"),  # absent where it is no UTF-8
        "type": about["type"],
        "memory": build["target_memkb"] >> 10,
        "maxmem": build["max_memkb"] >> 10,
        "vcpus": len(build.get("avail_vcpus", ())),
        "maxvcpus": build["max_vcpus"],
        "kernel": build.get("kernel"),
        "cmdline": build.get("cmdline", ""),
        "cpu_weight": build["sched_params"].get("weight", 256),
        "max_event_channels": build["event_channels"],
        "max_grant_frames": build.get("max_grant_frames"),
        "max_maptrack_frames": build.get("max_maptrack_frames"),
        "max_grant_version": build["max_grant_version"],
        "time_offset": (build.get("rtc_timeoffset", 0) + (1 << 31)) % (1 << 32) - (1 << 31),
        "localtime": build.get("localtime") == "True",
        "disks": [
            (
                disk.get("pdev_path") or "", disk["vdev"], "rw" if disk.get("readwrite") else "ro",
                disk.get("format", "raw"), "cdrom" if disk.get("is_cdrom") else "disk",
                {"True": "yes", "False": "no"}.get(disk.get("discard_enable"), ""), "512", "",
            )
            for disk in found.get("disks", ())
        ],
        **actions,
    }


def differences(file: bytes, theirs: dict[str, Any], here: DomainConfig) -> list[str]:
    """Values that are not the same, but for what is meant to differ."""
    expected = values(theirs)
    if expected["name"] is None:
        del expected["name"]
    elif not expected["name"]:
        expected["name"] = "asked"  # an empty name is none; the file's own stands in
    if expected["kernel"] is not None:
        expected["kernel"] = here.kernel.parent / expected["kernel"]
    expected["disks"] = [(str(here.kernel.parent / path) if path else "", *rest) for path, *rest in expected["disks"]]
    expected["maxmem"] = max(expected["maxmem"], expected["memory"])  # less than there is is no most
    if here.max_grant_version is None:  # whatever there is
        assert expected.pop("max_grant_version") == 2
    expected["vcpus"] = expected["vcpus"] or 1  # none online: the first one runs all the same
    for event in ("on_crash", "on_watchdog"):  # kept to be looked at, where nothing else is said
        if event not in here.given:
            expected[event] = "preserve"
    if "on_watchdog" in here.given and b"on_watchdog" not in file:
        expected["on_watchdog"] = expected["on_crash"]
    return [
        f"{name}: xl has {value!r}, we {getattr(here, name)!r}"
        for name, value in expected.items()
        if getattr(here, name) != value
    ]


def agree(judge: Judge, files: Iterable[bytes], seen: Counter[str]) -> Iterator[str]:
    """Disagreements."""
    for file in files:
        verdict = judge.ask(file)
        here, problems = ours(judge)
        seen["files"] += 1
        if verdict.taken:
            seen["taken by xl"] += 1
            if here is not None:
                seen["taken here"] += 1
                assert verdict.config is not None
                yield from (f"{file!r}: {each}" for each in differences(file, verdict.config, here))
            else:
                yield from (f"{file!r}: xl takes it; {each}" for each in problems if not may_refuse(each))
        elif here is not None and "config parsing error" in verdict.said and not LENIENT.search(file):
            yield f"{file!r}: xl cannot read it: {verdict.said}"


def may_refuse(problem: Problem) -> bool:
    key = re.match(r"'(\w+)'", problem.text)
    if key is None:
        return problem.text.startswith(("no kernel is named", "the command line is longer", *HVM_ONLY)) or bool(
            re.match(r"there is no file |cannot look for |no kernel '", problem.text)
        )
    words = MAY_REFUSE.get(key.group(1), "nothing of the kind")
    return any(each in problem.text for each in ((words,) if isinstance(words, str) else words))


def test_every_key_that_xl_looks_for_is_in_the_table(judge: Judge) -> None:
    asked = {kind: judge.keys(kind) for kind in ("pv", "pvh", "hvm")}
    types: dict[str, set[str]] = {}
    for found in asked.values():
        for name, how in found.items():
            types.setdefault(name, set()).update(how)
    assert len(types) > 150
    assert set(types) == {name for name, key in KEYS.items() if not key.ours}
    for name, how in types.items():
        key = KEYS[name]
        assert how <= TYPES[key.reads] and (how & TYPES[key.reads]), f"{name}: xl reads {how}, we {key.reads.value}"
        for kind in set(key.of) & set(asked):
            assert name in asked[kind], f"{name} says nothing to xl about a {kind} domain"


def test_every_key_of_the_manual_is_in_the_table() -> None:
    items, depth = set(), 0
    for line in gzip.open(MANUAL, "rt", encoding="utf-8"):
        depth += line.startswith(".RS") - line.startswith(".RE")
        item = re.match(r'(?:\.(?:ie n|el) )?\.IP "\\fB(?:\\s-1)?([a-z][a-z0-9_]*)=', line)
        if item and depth == 0:
            items.add(item.group(1))
    assert len(items) > 130
    assert items - set(KEYS) == set()


@pytest.mark.parametrize("part", ["single keys", "taken keys", "syntax", "disks", "soup", "mixtures"])
def test_what_xl_takes_is_taken_with_the_same_values(judge: Judge, part: str) -> None:
    files = {
        "single keys": corpus.single_keys(), "taken keys": corpus.taken_keys(), "syntax": corpus.syntax(),
        "disks": corpus.disks(400),
        "soup": corpus.soup(100), "mixtures": corpus.mixtures(100),
    }[part]  # fmt: skip
    seen: Counter[str] = Counter()
    found = list(agree(judge, files, seen))
    print(part, dict(seen))
    assert not found, "\n".join([f"{len(found)} of {seen['files']} differ", *found[:40]])
    assert seen["taken here"]


@pytest.mark.parametrize("arguments", corpus.ARGUMENTS, ids=" ".join)
def test_settings_of_the_command_line_are_as_xl_has_them(judge: Judge, arguments: list[str]) -> None:
    file = corpus.HEAD + b"memory = 64\ncmdline = 'a'\n"
    verdict = judge.ask(file, *arguments)
    here, problems = ours(judge, arguments)
    assert verdict.config is not None and here is not None, (verdict.said, problems)
    assert differences(file, verdict.config, here) == []


VDEVS = (
    *(f"{bus}{letters}{partition}" for bus in ("xvd", "sd", "hd") for letters in ("a", "b", "d", "e", "p", "q", "zz")
      for partition in ("", "0", "1", "03", "15", "16", "63", "64", "255", "256")),
    "d0p0", "d1p2", "d15p15", "d15p16", "d16p0", "d1048575p255", "d1048576p0", "d0p256", "d0x10p0x1", "d010p017",
    "d08p0", "d0", "p0", "51712", "0xca00", "0145000", "0", "2147483647", "2147483648", "08", "xvdbhwij", "xvdbhwik",
    "nvme0n1", "XVDA", "xvda x",
)  # fmt: skip


def test_the_names_of_disks_have_the_numbers_that_libxl_gives_them(judge: Judge) -> None:
    node = re.compile("/libxl/1/device/vbd/([0-9]+)/backend")
    theirs = {}
    for name in VDEVS:
        found = [match[1] for read in judge.reads("block-detach", "1", name) if (match := node.fullmatch(read))]
        theirs[name] = int(found[0]) if found else None
    assert {name: number_of(name) for name in VDEVS} == theirs
    assert 80 < len([number for number in theirs.values() if number is not None]) < len(VDEVS)
