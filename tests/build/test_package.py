# SPDX-License-Identifier: GPL-2.0-or-later
"""What is published: a wheel with everything compiled in it, the engine for its platform, from the tree or an sdist."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pvhv
from pvhv.build.engine import this_platform
from pvhv.build.pacer import PLATFORMS
from pvhv.build.zig import PINNED

ROOT = Path(__file__).parents[2]
PACER = ("pacer.c", "pacer.h", "pacer_code.h", "pacer_ease.h", "pacer_exits.h")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def hatchling(tree: Path, target: str, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (made,) = out.iterdir()
    return made


def test_version_is_read_from_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", pvhv.__version__)
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "pvhv/__init__.py"
    assert "version" in PYPROJECT["project"]["dynamic"]


def test_the_compiler_is_pinned_to_one_version_everywhere() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    for requirements in (PYPROJECT["build-system"]["requires"], extras["build"], extras["test"]):
        assert [r for r in requirements if r.startswith("ziglang")] == [f"ziglang=={PINNED}"]


def test_a_wheel_made_from_an_sdist_is_for_its_platform_and_holds_everything(tmp_path: Path) -> None:
    sdist = hatchling(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (tree,) = (tmp_path / "unpacked").iterdir()
    assert not (tree / "pvhv" / "_built").exists()
    for name in ("LICENSE", "README.md", "tools/dev.py", "examples/first-guest/first-guest.c"):
        assert (tree / name).is_file()
    wheel = hatchling(tree, "wheel", tmp_path / "wheel")
    engine = this_platform()
    tag = "any" if engine is None else sysconfig.get_platform().replace("-", "_").replace(".", "_")
    tag = tag.replace("linux_", "manylinux_2_17_", 1) if tag.startswith("linux_") else tag
    assert wheel.name == f"pvhv-{pvhv.__version__}-py3-none-{tag}.whl"
    assert not (tree / "pvhv" / "_built").exists(), "a wheel's products are its own, not the tree's"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    expected = {f"pvhv/_built/{platform.product}" for platform in PLATFORMS}
    expected |= {"pvhv/_built/kernels/test-hello", "pvhv/_built/include/xen/xen_abi.h"}
    expected |= {"pvhv/build/guest.lds", "pvhv/py.typed"}
    expected |= {f"pvhv/machine/{name}" for name in PACER}
    expected |= {f"pvhv/machine/corrections/{name}" for name in ("seam.toml", "seam.c", "seam.h")}
    expected |= set() if engine is None else {f"pvhv/_built/{engine.product}"}
    assert expected <= set(names)
    assert {name.split("/")[0] for name in names} == {"pvhv", f"pvhv-{pvhv.__version__}.dist-info"}
