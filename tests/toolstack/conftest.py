# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of the toolstack share."""

from collections.abc import Callable

import pytest

from tests.toolstack.recipes import Recipe


@pytest.fixture
def make_kernel() -> Callable[..., bytes]:
    """make_kernel(notes=…, bss=…, …) -> the bytes of a kernel file."""

    def make(**options: object) -> bytes:
        return Recipe(**options).build()  # type: ignore[arg-type]

    return make
