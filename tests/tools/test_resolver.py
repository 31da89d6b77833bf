# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages are needed: by rules of Debian's policy, and beside apt, on small indexes made here. No network."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from tests.tools.repository import stanza
from tools.linux import versions
from tools.linux.deb import BadPackage
from tools.linux.debian import Apt, parse_uris
from tools.linux.resolver import Index, relations, resolve

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt here to compare with")

IN_ORDER = [
    "0~~", "0~", "0", "0a", "0+b", "0.1", "1.0~rc1", "1.0~rc1+b1", "1.0", "1.0-1~deb12u1", "1.0-1", "1.0-1+b1",
    "1.0-1.1", "1.0-2", "1.0-10", "1.0a", "1.0.1", "1.9", "1.10", "1:0.1", "1:0.1-0.1", "2:0",
]  # fmt: skip


def test_versions_in_order() -> None:
    for older, newer in itertools.pairwise(IN_ORDER):
        assert versions.key(older) < versions.key(newer), (older, newer)
    assert versions.key("1.0") == versions.key("0:1.00-0") and versions.key("1-2-3") > versions.key("1-2-2")
    assert versions.fits("2", "", "") and versions.fits("2", ">=", "2") and not versions.fits("2", ">>", "2")
    assert versions.fits("2", "=", "2") and versions.fits("2~1", "<<", "2") and not versions.fits("1:0", "<=", "2")


def test_dependencies_are_read() -> None:
    (first, second) = relations("libc6 (>= 2.3), awk:any|mawk:amd64 ( << 1:2-3 )")
    assert first == (("libc6", ">=", "2.3"),) and second == (("awk", "", ""), ("mawk", "<<", "1:2-3"))
    assert relations("") == []
    for wrong in ("a (2)", "a (~ 2)", "A!", "a b"):
        with pytest.raises(BadPackage, match="makes no sense"):
            relations(wrong)


PACKAGES = [
    stanza("base", Priority="required", Essential="yes", Pre_Depends="lib (>= 2)", Depends="awk"),
    stanza("lib", "2.1", Multi_Arch="allowed"),
    stanza("gawk", Priority="optional", Provides="awk"),
    stanza("mawk", Priority="required", Provides="awk"),
    stanza("tool", Depends="gone | real-tool | other-tool, lib"),
    stanza("real-tool", Depends="loop"),
    stanza("other-tool"),
    stanza("loop", Depends="real-tool"),
    stanza("wants-other", Depends="tool, other-tool"),
    stanza("wants-late", Depends="tool, needs-other"),
    stanza("needs-other", Depends="other-tool"),
    stanza("old", Depends="lib (>= 3)"),
    stanza("nothing", Depends="gone"),
    stanza("rival", Conflicts="mawk"),
    stanza("broken-rival", Depends="awk, rival, mawk"),
    stanza("avoids", Depends="awk, rival"),
    stanza("mta", Provides="mail (= 3)", Conflicts="mail"),
    stanza("asks-mail", Depends="mail (>= 3)"),
    stanza("asks-newer-mail", Depends="mail (>> 3)"),
    stanza("versionless", Provides="thing"),
    stanza("asks-thing", Depends="thing (>= 1)"),
    stanza("breaks-old", Breaks="lib (<< 2)"),
    stanza("for-all", Depends="lib:any").replace("amd64", "all"),
    stanza("for-arm").replace("amd64", "arm64"),
]


@pytest.fixture
def index() -> Index:
    made = Index()
    made.add("\n".join(PACKAGES))
    return made


def names(index: Index, *words: str) -> str:
    return " ".join(entry.name for entry in resolve(index, words))


SETS = [
    ("base", "base lib mawk"),  # of those that provide it, the one with the highest priority
    ("base gawk", "base gawk lib"),  # unless another one is there anyhow
    ("tool", "lib loop real-tool tool"),  # the first alternative that there is, and a circle
    ("wants-other", "lib other-tool tool wants-other"),  # what must be there does for the alternatives as well
    ("wants-late", "lib needs-other other-tool tool wants-late"),
    ("avoids", "avoids gawk rival"),  # the preferred one is in conflict with what must be there
    ("asks-mail", "asks-mail mta"),  # and it is not in conflict with itself
    ("breaks-old lib", "breaks-old lib"),
    ("for-all", "for-all lib"),
]

# apt takes the first alternative at once, and we wait whether another one is needed anyhow.
APT_HAS_MORE = {
    "wants-other": "lib loop other-tool real-tool tool wants-other",
    "wants-late": "lib loop needs-other other-tool real-tool tool wants-late",
}


@pytest.mark.parametrize(("asked", "expected"), SETS)
def test_sets(index: Index, asked: str, expected: str) -> None:
    assert names(index, *asked.split()) == expected


def test_kinds_of_packages(index: Index) -> None:
    assert names(index, "?priority(required)") == "base lib mawk" == names(index, "?essential")
    assert names(index, "awk") == "mawk"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("unknown", "there is no package unknown"),
        ("for-arm", "there is no package for-arm"),
        ("old", r"old \(for what was asked for\) needs lib \(>= 3\), but lib is 2\.1"),
        ("nothing", "needs gone, but there is none"),
        ("broken-rival", "rival|mawk.*cannot be there together with"),
        ("rival mawk", r"mawk \(for what was asked for\) and rival \(for what .*\) cannot be there together"),
        ("asks-newer-mail", r"needs mail \(>> 3\), but there is none"),
        ("asks-thing", r"needs thing \(>= 1\), but there is none"),  # who says no version has none
    ],
)
def test_what_cannot_be_met(index: Index, asked: str, why: str) -> None:
    with pytest.raises(BadPackage, match=why):
        names(index, *asked.split())


def test_the_newest_version_counts(index: Index) -> None:
    index.add("\n".join([stanza("lib", "1.9"), stanza("mawk", "2", Priority="required"), stanza("lib", "3")]), "new")
    (lib,) = resolve(index, ["lib"])
    assert (lib.version, lib.origin) == ("3", "new") and names(index, "old") == "lib old"
    assert names(index, "awk") == "gawk"  # the newer mawk does not provide it


@needs_apt
def test_apt_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Index) -> None:
    archive, state = tmp_path / "archive", tmp_path / "apt"
    for made in (archive, state / "lists" / "partial", state / "archives" / "partial"):
        made.mkdir(parents=True)
    files = (f"{text}Filename: {number}.deb\nSize: 1\nSHA256: {number:064}\n" for number, text in enumerate(PACKAGES))
    (archive / "Packages").write_text("\n".join(files))
    (state / "nothing").write_text("")
    (state / "sources.list").write_text(f"deb [trusted=yes arch=amd64] copy:{archive} ./\n")
    options = {
        "Dir::Etc::sourcelist": state / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": state / "lists", "Dir::Cache": state, "Dir::State::status": state / "nothing",
        "APT::Install-Recommends": "false", "APT::Architecture": "amd64",
    }  # fmt: skip
    (state / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
    monkeypatch.setenv("APT_CONFIG", str(state / "apt.conf"))
    apt = Apt()
    apt.update()
    for asked, expected in [*SETS, ("?priority(required)", "base lib mawk")]:
        found = parse_uris(apt.ask("apt-get", "install", "--yes", "-q=2", "--print-uris", *asked.split()))
        there = " ".join(sorted(package.name for package in found))
        assert there == APT_HAS_MORE.get(asked, expected), asked
