# SPDX-License-Identifier: GPL-2.0-or-later
"""The techniques, and what some of them share; technique.py says what one is, registry.py which there are."""
