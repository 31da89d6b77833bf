# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of the site, before MkDocs makes it: everything is there, and linked to. (.ci/run builds it.)"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.docs.clone import ROOT
from tools import build_docs

NAV = re.findall(r"^ +- [^:]+: ([\w/.-]+\.md)$", (ROOT / "tools" / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("site") / "pages"
    build_docs.gather(made)
    return made


def test_every_document_is_in_the_menu(pages: Path) -> None:
    written = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    assert sorted(NAV) == sorted(name for name in written if not name.startswith("source/"))


def test_every_link_leads_to_a_page(pages: Path) -> None:
    for page in pages.rglob("*.md"):
        if page.is_relative_to(pages / "source"):
            continue
        for _, target in build_docs.LINK.findall(build_docs.FENCED.sub("", page.read_text("utf-8"))):
            name = target.partition("#")[0]
            assert re.match(r"[a-z]+:", target) or not name or (page.parent / name).is_file(), f"{page}: {target}"


def test_what_the_journey_names_can_be_read_there(pages: Path) -> None:
    text = (pages / "source" / "pvhv" / "core" / "mm" / "frames.py.md").read_text("utf-8")
    assert text.startswith('# pvhv/core/mm/frames.py\n\n````python linenums="1"\n# SPDX')


def test_the_modules_are_there() -> None:
    for _title, modules in build_docs.PYTHON.values():
        for name in modules:
            assert (importlib.import_module(name).__doc__ or "").strip()
