# SPDX-License-Identifier: GPL-2.0-or-later
"""What a real Xen does with a domain's disks (dom0/disks.sh), recorded, and compared with what pvhv does.

The record is the transcript of one run, in parts with titles. A part has commands of xl's with their outcome, and the
nodes of a disk in xenstore as `xenstore-ls -fp` shows them. What is the domain's own business there (numbers of grants
and ports) and the host's (names of files) is not compared.

Differences that have a reason are rows of tests/reference/disks.toml: a part, a node, and why.

This module does not know how the record is made (machine.py), nor how pvhv's nodes are got (the tests).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tools.reference.jobs import Job
from tools.reference.parts import Parts

REFERENCE = Path(__file__).parents[2] / "tests" / "reference"
RECORD, DIFFERENCES = REFERENCE / "disks.txt", REFERENCE / "disks.toml"
SCRIPT = Path(__file__).parent / "dom0" / "disks.sh"
SECONDS = 900  # the script is silent until its end
TITLE, NODE = re.compile("## (.+)"), re.compile(r'(/\S+) = "(.*)"   \((\S+)\)')
NOT_COMPARED = re.compile(r"/(ring-ref|event-channel|params)$")

Nodes = dict[str, tuple[str, str]]  # of a path: value, permissions


class Difference(NamedTuple):
    """A node that is not the same: its path, and what it is there and here; "" where it is not."""

    path: str
    xen: str
    pvhv: str


class Excuse(NamedTuple):
    """A row of the list: patterns for the title of a part and for a path."""

    part: str
    node: str
    why: str

    def covers(self, part: str, found: Iterable[Difference]) -> bool:
        """Whether it explains one of these, of that part."""
        return bool(re.fullmatch(self.part, part)) and any(re.search(f"{self.node}$", each.path) for each in found)


def job(have: Parts) -> Job:
    """The job that makes the record."""
    keys = 'disk=["/tmp/a.img,raw,xvda,w"]\ncmdline="console=hvc0 quiet"'
    return Job("disks", have.kernel, memory=128, ramdisk=have.guest, script=SCRIPT, keys=keys, seconds=SECONDS)


def save(lines: list[str], versions: Mapping[str, str]) -> None:
    """Write the record into the tree."""
    head = [f"# What `tools/xen_reference.py record-disks` says on {version}." for version in versions.values()]
    RECORD.write_text("\n".join([*head, *(line.rstrip() for line in lines), ""]))


def load() -> dict[str, list[str]]:
    """The lines of each part of the record, by its title."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in RECORD.read_text().splitlines():
        if title := TITLE.fullmatch(line):
            lines = found.setdefault(title[1], [])
        else:
            lines.append(line)
    return found


def nodes(lines: list[str]) -> Nodes:
    """The nodes of xenstore in some lines."""
    return {match[1]: (match[2], match[3]) for line in lines if (match := NODE.fullmatch(line))}


def differences(there: Nodes, here: Nodes) -> list[Difference]:
    """What is not the same, by path."""
    found = []
    for path in sorted(there.keys() | here.keys()):
        one, other = there.get(path), here.get(path)
        if one is not None and other is not None and NOT_COMPARED.search(path):
            one, other = ("", one[1]), ("", other[1])
        if one != other:
            found.append(Difference(path, *(f'"{each[0]}" ({each[1]})' if each else "" for each in (one, other))))
    return found


def excuses() -> list[Excuse]:
    """The rows of the list."""
    return [Excuse(**row) for row in tomllib.loads(DIFFERENCES.read_text())["difference"]]


def unexplained(part: str, found: list[Difference]) -> list[Difference]:
    """Differences of a part that no row explains."""
    rows = excuses()
    return [each for each in found if not any(row.covers(part, [each]) for row in rows)]
