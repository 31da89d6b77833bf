# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of devices, by the name of their directories in the store. A new kind gets a row here."""

from __future__ import annotations

from pvhv.devices.backend import Backend
from pvhv.devices.block.control import BlockBackend
from pvhv.devices.console.control import ConsoleBackend

BACKENDS: dict[str, type[Backend]] = {backend.kind: backend for backend in (ConsoleBackend, BlockBackend)}
