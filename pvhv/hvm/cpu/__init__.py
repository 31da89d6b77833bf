# SPDX-License-Identifier: GPL-2.0-or-later
"""The processor as the guest sees it: its registers, its memory, and the parts the engine does not implement."""
