# SPDX-License-Identifier: GPL-2.0-or-later
"""The lens: what the core records, made readable. Nothing here changes what a guest sees."""
