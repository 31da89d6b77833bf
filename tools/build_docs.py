# SPDX-License-Identifier: GPL-2.0-or-later
"""Build the documentation as a site, build/docs/index.html, with every warning an error.

    python tools/build_docs.py            gather the pages into build/docs-pages, and have MkDocs make the site
    python tools/build_docs.py --pages    only gather them

The pages are the documents of this tree as they are, with links that lead to each other's page. A file of source that a
document links to becomes a page as well, so that docs/reading.md can be followed in a browser. The Python interface is
printed from its docstrings. MkDocs runs as a process of its own, and reads our source without importing it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "docs-pages"
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

# The documents, and what their pages are called; a picture keeps its name.
DOCUMENTS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "hypercalls.md": "hypercalls.md",
    "guest_kernel/README.md": "guest_kernel.md",
    **{f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").iterdir())},
}
# The Python interface: what stands on each page, by module.
PYTHON = {
    "testing": ("Guests in tests", ["pvhv.testing"]),
    "compare": (
        "Techniques of virtualization, counted",
        ["pvhv.compare", "pvhv.compare.records", "pvhv.compare.export", "pvhv.compare.costs", "pvhv.compare.plot"],
    ),
    "observe": ("Traces and counters", ["pvhv.observe.trace", "pvhv.observe.wanted", "pvhv.observe.counters"]),
    "build": ("Guests compiled", ["pvhv.build", "pvhv.build.guest"]),
}
LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".S": "gas", ".toml": "toml", ".cfg": "python"}


def page_of(path: str) -> str:
    """The page that a file of the tree, or a directory, is on."""
    return DOCUMENTS.get(path) or f"source/{path}.md"


class Gathering:
    """The pages of the site: each once, and the files they link to."""

    def __init__(self) -> None:
        self.sources: set[str] = set()

    def document(self, path: str) -> str:
        """A document's text as its page has it."""
        text = (ROOT / path).read_text("utf-8")
        parts, at = [], 0
        for fenced in FENCED.finditer(text):
            parts += [self.linked(path, text[at : fenced.start()]), fenced[0]]
            at = fenced.end()
        return "".join((*parts, self.linked(path, text[at:])))

    def linked(self, path: str, text: str) -> str:
        """A document's text, with links that lead to pages."""
        return LINK.sub(lambda found: f"{found[1]}({self.target(path, found[2])})", text)

    def target(self, path: str, link: str) -> str:
        """Where a link of a document leads on the site."""
        name, mark, anchor = link.partition("#")
        if not name or re.match(r"[a-z]+:", link):
            return link
        file = os.path.normpath(os.path.join(os.path.dirname(path), name)).replace(os.sep, "/")
        if not (ROOT / file).exists():
            sys.exit(f"{path} links to {link}, which is not there")
        if file not in DOCUMENTS:
            self.sources.add(file)
        relative = os.path.relpath(page_of(file), os.path.dirname(page_of(path)) or ".")
        return relative.replace(os.sep, "/") + mark + anchor


def source(path: str) -> str:
    """A file of source as a page; a directory as the list of what is in it."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(each.name for each in file.iterdir() if not each.name.startswith(("_", ".")))
        return f"# {path}\n\n" + "\n".join(f"- `{name}`" for name in names) + "\n"
    text = file.read_text("utf-8")
    return f"# {path}\n\n````{LANGUAGES.get(file.suffix, 'text')} linenums=\"1\"\n{text.rstrip()}\n````\n"


def gather(pages: Path) -> None:
    """Write all pages."""
    shutil.rmtree(pages, ignore_errors=True)
    gathering = Gathering()
    texts = {}
    for path, page in DOCUMENTS.items():
        if path.endswith(".md"):
            texts[page] = gathering.document(path)
        else:
            pages.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, pages / page)
    texts |= {page_of(path): source(path) for path in sorted(gathering.sources)}
    for name, (title, modules) in PYTHON.items():
        texts[f"python/{name}.md"] = "\n\n".join((f"# {title}", *(f"::: {module}" for module in modules))) + "\n"
    for page, text in texts.items():
        (pages / page).parent.mkdir(parents=True, exist_ok=True)
        (pages / page).write_text(text, "utf-8", newline="\n")


def main() -> int:
    """Gather and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", action="store_true", help="only gather the pages")
    only_pages = parser.parse_args().pages
    began = time.monotonic()
    gather(PAGES)
    if only_pages:
        return 0
    if importlib.util.find_spec("mkdocs") is None:
        print("build_docs: MkDocs is not here; `python3 tools/dev.py docs` installs it", file=sys.stderr)
        return 1
    # What Material says about MkDocs' future at each start is not for our readers.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "tools" / "mkdocs.yml")]
    # Not --quiet: it takes warnings away before they are counted.
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    status = done.returncode
    if status:
        print("".join(line for line in done.stdout.splitlines(True) if not line.startswith("INFO")), file=sys.stderr)
    if status == 0:
        print(f"build/docs/index.html, in {time.monotonic() - began:.1f} s", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
