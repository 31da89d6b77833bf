# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages are needed for some to work, where there is no apt to say so: a small resolver for an empty system.

    Index       the packages of some suites: of each, the newest version; and who provides what
    resolve     the packages that were asked for, with all they depend on (Depends and Pre-Depends)

How it chooses: a dependency that only one package can meet is met first. What is then still open is met by the first of
its alternatives that there is; of several packages that only provide a name, by the one with the highest priority. What
conflicts with a package that was chosen already is no choice. apt takes a first alternative at once: so it may bring
one that is not needed, since another comes later. The sets of installer.py are the same by both (bookworm, 12.15).

Invariant: the set that is returned is closed (each dependency is met by a member) and has no two members in conflict.

Not modelled: going back on a choice (what cannot be met then is said); versions other than the newest; recommendations;
other architectures than amd64.

Read beside it: Debian's policy, chapter 7; apt's MarkInstall in depcache.cc.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tools.linux import versions
from tools.linux.deb import BadPackage

NEEDS = ("Pre-Depends", "Depends")
AGAINST = ("Conflicts", "Breaks")
PRIORITIES = ("required", "important", "standard", "optional", "extra")
RELATION = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::\w+)?(?:\s*\(\s*(<<|<=|=|>=|>>)\s*(\S+?)\s*\))?")
PATTERN = re.compile(r"\?priority\((\w+)\)|\?essential")


class Relation(NamedTuple):
    """A package that another one names, and its version if that matters. `how` is <<, <=, =, >= or >>, or empty."""

    name: str
    how: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.how} {self.version})" if self.how else self.name


class Entry:
    """A package as an index describes it."""

    def __init__(self, fields: Mapping[str, str], origin: str = "") -> None:
        self.fields, self.origin = fields, origin
        self.name, self.version = fields["Package"], fields["Version"]
        self.needs = [group for field in NEEDS for group in relations(fields.get(field, ""))]
        self.against = [group[0] for field in AGAINST for group in relations(fields.get(field, ""))]
        self.provides = [group[0] for group in relations(fields.get("Provides", ""))]

    @property
    def rank(self) -> tuple[int, str]:
        """Where it stands among others that provide the same."""
        priority = self.fields.get("Priority", "")
        return PRIORITIES.index(priority) if priority in PRIORITIES else len(PRIORITIES), self.name

    def meets(self, relation: Relation) -> bool:
        """Whether this package is, or provides, what is asked for. Who provides a name without a version meets no
        question for one."""
        if self.name == relation.name:
            return versions.fits(self.version, relation.how, relation.version)
        return any(
            given.name == relation.name
            and (not relation.how or (bool(given.how) and versions.fits(given.version, relation.how, relation.version)))
            for given in self.provides
        )

    def conflicts(self, other: Entry) -> bool:
        """Whether one of two packages says that they cannot be there together. (To be in conflict with what itself
        provides means: with who else provides it.)"""
        return any(map(other.meets, self.against)) or any(map(self.meets, other.against))


class Index:
    """The packages there are. They are read when they are asked for: there are tens of thousands."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str, str, str]] = {}  # version, stanza, origin
        self._provided: dict[str, set[str]] = {}  # by whom, perhaps in another version
        self._read: dict[str, Entry] = {}

    def add(self, text: str, origin: str = "") -> None:
        """Add an index as archives have it (Packages); `origin` is kept with each package."""
        for stanza in text.split("\n\n"):
            name, version = _field(stanza, "Package"), _field(stanza, "Version")
            if not name or not version or _field(stanza, "Architecture") not in ("amd64", "all"):
                continue
            known = self._texts.get(name)
            if known is not None and versions.key(known[0]) >= versions.key(version):
                continue
            self._texts[name] = version, stanza, origin
            self._read.pop(name, None)
            for group in relations(_field(stanza, "Provides")):
                self._provided.setdefault(group[0].name, set()).add(name)

    def get(self, name: str) -> Entry | None:
        """The newest version of a package; None if there is none of that name."""
        if name not in self._read and name in self._texts:
            _, stanza, origin = self._texts[name]
            self._read[name] = Entry(parse(stanza), origin)
        return self._read.get(name)

    def options(self, relation: Relation) -> list[Entry]:
        """The packages that meet a relation: the one of that name, then those that provide it, the best one first."""
        provide = (entry for name in self._provided.get(relation.name, ()) if (entry := self.get(name)) is not None)
        others = sorted((entry for entry in provide if entry.name != relation.name), key=lambda entry: entry.rank)
        itself = self.get(relation.name)
        return [entry for entry in (itself, *others) if entry is not None and entry.meets(relation)]

    def named(self, word: str) -> list[Entry]:
        """What a name asks for: a package, or by ?priority(required) or ?essential all of a kind. Raises BadPackage."""
        if (pattern := PATTERN.fullmatch(word)) is None:
            found = self.options(Relation(word))[:1]
            if not found:
                raise BadPackage(f"there is no package {word}")
            return found
        field, value = ("Priority", pattern[1]) if pattern[1] else ("Essential", "yes")
        names = (name for name, (_, stanza, _) in self._texts.items() if _field(stanza, field) == value)
        return [entry for name in sorted(names) if (entry := self.get(name)) is not None]


def resolve(index: Index, words: Iterable[str]) -> list[Entry]:
    """The packages of these names with all they need, by name. Raises BadPackage, which says what cannot be met."""
    found = _Set(index)
    for word in words:
        for entry in index.named(word):
            found.add(entry, "what was asked for")
    found.close()
    return sorted(found.chosen.values(), key=lambda entry: entry.name)


class _Set:
    """A set of packages that grows until it is closed."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.chosen: dict[str, Entry] = {}
        self._why: dict[str, str] = {}  # who asked for a package
        self._open: deque[tuple[Entry, tuple[Relation, ...]]] = deque()

    def add(self, entry: Entry, why: str) -> None:
        if entry.name in self.chosen:
            return
        for other in self.chosen.values():
            if entry.conflicts(other):
                raise BadPackage(
                    f"{entry.name} (for {why}) and {other.name} (for {self._why[other.name]}) cannot be there together"
                )
        self.chosen[entry.name], self._why[entry.name] = entry, why
        self._open.extend((entry, group) for group in entry.needs)

    def close(self) -> None:
        """Meet all dependencies. Raises BadPackage."""
        later: deque[tuple[Entry, tuple[Relation, ...]]] = deque()
        while self._open or later:
            certain = bool(self._open)
            entry, group = (self._open or later).popleft()
            if any(other.meets(relation) for relation in group for other in self.chosen.values()):
                continue
            options = self._options(group)
            if not options:
                raise BadPackage(self._unmet(entry, group))
            if certain and len(options) > 1:
                later.append((entry, group))
            else:
                self.add(options[0], entry.name)

    def _options(self, group: tuple[Relation, ...]) -> list[Entry]:
        """What meets a dependency and is in conflict with nothing that was chosen, in the order of preference."""
        found = {entry.name: entry for relation in group for entry in self.index.options(relation)}
        return [entry for entry in found.values() if not any(map(entry.conflicts, self.chosen.values()))]

    def _unmet(self, entry: Entry, group: tuple[Relation, ...]) -> str:
        needed = f"{entry.name} (for {self._why[entry.name]}) needs {' or '.join(map(str, group))}"
        there = {found.name: found for relation in group for found in self.index.options(relation)}
        for other in there.values():
            rivals = [chosen.name for chosen in self.chosen.values() if other.conflicts(chosen)]
            return f"{needed}, but {other.name} cannot be there together with {' and '.join(rivals)}"
        others = (self.index.get(relation.name) for relation in group)
        older = [f"{other.name} is {other.version}" for other in others if other is not None]
        return f"{needed}, but {' and '.join(older) or 'there is none'}"


def relations(text: str) -> list[tuple[Relation, ...]]:
    """The groups of a field such as Depends; the members of one are alternatives. Raises BadPackage."""
    return [tuple(_relation(part) for part in group.split("|")) for group in text.split(",") if group.strip()]


def _relation(text: str) -> Relation:
    match = RELATION.fullmatch(text.strip())
    if match is None:
        raise BadPackage(f"the archive's index has a dependency that makes no sense: {text.strip()!a}")
    return Relation(match[1], match[2] or "", match[3] or "")


def parse(stanza: str) -> dict[str, str]:
    """The fields of a stanza; lines that go on are joined."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1] in (" ", "\t"):
            fields[name] = fields.get(name, "") + "\n" + line[1:]
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _field(stanza: str, name: str) -> str:
    """One field of a stanza that is on one line, without reading the others."""
    at = 0 if stanza.startswith(f"{name}:") else stanza.find(f"\n{name}:") + 1
    if at == 0 and not stanza.startswith(f"{name}:"):
        return ""
    end = stanza.find("\n", at)
    return stanza[at + len(name) + 1 : end if end >= 0 else len(stanza)].strip()
