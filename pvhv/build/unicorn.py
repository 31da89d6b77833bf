# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's source: unicorn's source distribution, exactly one, as its authors published it.

pip fetches it by version and hash, since pip knows the user's indexes and mirrors. Its hash is checked once more, and
it is kept in the store under that hash. So a second build needs no network, and an altered file is an error.

This module does not know what is compiled of it (engine.py), nor what is changed (corrections.py).
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pvhv.build.cache import Cache
from pvhv.build.zig import BuildError

VERSION = "2.1.4"
SHA256 = "00567a70e323f749b419cd86bee4f9115beab7ebba32194581c090cbb7c59cff"

# What is needed of it, for guests of one architecture: how names below src/ begin, and end.
_WANTED = (
    "uc.c", "list.c", "include/", "glib_compat/", "qemu/exec", "qemu/x86_64.h", "qemu/unicorn_common.h", "qemu/vl.h",
    "qemu/memory_ldst", "qemu/accel/", "qemu/crypto/", "qemu/fpu/", "qemu/hw/core/", "qemu/hw/i386/", "qemu/include/",
    "qemu/softmmu/", "qemu/target/i386/", "qemu/tcg/", "qemu/trace/", "qemu/util/",
)  # fmt: skip
_WANTED_OF_OTHERS = "/unicorn.h"


class SourceMissing(BuildError):
    """The source cannot be fetched now. pvhv can do without it, on the published engine."""


def find_source(store: Cache) -> bytes:
    """The source distribution, from the store or from the package index. Raises BuildError, SourceMissing."""
    kept = store.find("source", SHA256)
    if kept is not None:
        content = kept.read_bytes()
        if hashlib.sha256(content).hexdigest() == SHA256:
            return content
        kept.unlink(missing_ok=True)  # it was damaged in the store
    content = _download()
    got = hashlib.sha256(content).hexdigest()
    if got != SHA256:
        raise BuildError(f"the source of unicorn {VERSION} is not the one that pvhv knows: sha256 {got}, not {SHA256}")
    store.keep("source", SHA256, content)
    return content


def read_source(distribution: bytes) -> dict[str, str]:
    """The files that matter, by their names below src/."""
    import tarfile  # not for everybody who imports this package

    files: dict[str, str] = {}
    prefix = f"unicorn-{VERSION}/src/"
    try:
        with tarfile.open(fileobj=io.BytesIO(distribution), mode="r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix(prefix)
                wanted = name.startswith(_WANTED) or name.endswith(_WANTED_OF_OTHERS)
                if member.isfile() and name != member.name and wanted:
                    file = archive.extractfile(member)
                    assert file is not None
                    files[name] = file.read().decode("utf-8").replace("\r\n", "\n")
    except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise BuildError(f"the source of unicorn {VERSION} cannot be read: {error}") from error
    if "uc.c" not in files:
        raise BuildError(f"the source of unicorn {VERSION} holds no {prefix}uc.c")
    return files


def _download() -> bytes:
    """Fetch the source distribution by pip, which checks the hash before it runs anything of the package."""
    if given := os.environ.get("PVHV_UNICORN_SOURCE"):
        try:
            return Path(given).read_bytes()
        except OSError as error:
            raise BuildError(f"PVHV_UNICORN_SOURCE: {given}: {error.strerror}") from error
    with tempfile.TemporaryDirectory(prefix="pvhv-source-") as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"unicorn=={VERSION} --hash=sha256:{SHA256}\n", "utf-8")
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
            "--retries", "1", "--timeout", "15", "--no-deps", "--no-binary", "unicorn", "--require-hashes",
            "--dest", scratch, "-r", str(wanted),
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        found = sorted(Path(scratch).glob("unicorn-*.tar.gz"))
        if done.returncode == 0 and found:
            return found[0].read_bytes()
    said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    if any("DO NOT MATCH" in line for line in said):
        raise BuildError(f"the source of unicorn {VERSION} on your package index has another hash than pvhv knows")
    why = next((line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")), "pip cannot be run")
    raise SourceMissing(
        f"the source of unicorn {VERSION} could not be fetched ({why}); with the network back, build again, or name "
        f"a copy of unicorn-{VERSION}.tar.gz in PVHV_UNICORN_SOURCE"
    )
