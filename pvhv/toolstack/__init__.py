# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain 0's toolstack: domain files, the domain builder, life cycles, and the host process with its clients."""
