# SPDX-License-Identifier: GPL-2.0-or-later
"""One instruction at a time: decoded, and carried out on the guest's processor."""
