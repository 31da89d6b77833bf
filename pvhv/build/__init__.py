# SPDX-License-Identifier: GPL-2.0-or-later
"""The builder: C sources into guest kernels, the engine and the pacer, with the compiler that comes as a wheel.

Three callers, one way of building: the wheel's build hook (tools/hatch_build.py), the developer's verbs
(tools/dev.py), and `pvhv build DIR` for guests from outside the tree.  Nothing is compiled twice:
everything is keyed on a hash of what goes into it (objects.py), kept in the user's cache (cache.py).

    zig.py       the compiler     objects.py  compile and link, by key      kernels.py  kernels.toml, the plan
    cache.py     the store        initfs.py   the guest's first files       tree.py     the tree's products
    progress.py  a line about it  pacer.py    a library for every platform  guest.py    a guest of your own
    unicorn.py   the engine's source, as published   corrections.py  our changes   engine.py  both into a library

Imports the standard library only, and of pvhv nothing outside this directory: the hook runs before
anything else is installed.
"""

from pvhv.build.guest import build_directory
from pvhv.build.tree import build_tree
from pvhv.build.zig import BuildError

__all__ = ["BuildError", "build_directory", "build_tree"]
