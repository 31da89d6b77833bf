# SPDX-License-Identifier: GPL-2.0-or-later
"""The processor as the guest believes it to be: its registers, its memory, and what the engine leaves undone of it."""
