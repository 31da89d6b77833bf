# SPDX-License-Identifier: GPL-2.0-or-later
"""What guests do, made readable: traces, counters, symbols. Nothing here changes what a guest sees."""
