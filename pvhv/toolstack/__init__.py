# SPDX-License-Identifier: GPL-2.0-or-later
"""Dom0's other half: domain files, the domain builder, life cycles, and the host process with its clients."""
