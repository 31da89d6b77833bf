# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv trace` and `pvhv top`: what domains do, as it happens."""

from __future__ import annotations
