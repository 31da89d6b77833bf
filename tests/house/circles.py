# SPDX-License-Identifier: GPL-2.0-or-later
"""Circles in what refers to what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set


def circles(arrows: Mapping[str, Set[str]]) -> list[list[str]]:
    """The strongly connected sets of more than one, sorted. (Kosaraju's two passes)"""
    back: dict[str, set[str]] = {name: set() for name in arrows}
    for name, targets in arrows.items():
        for target in targets:
            back[target].add(name)
    order: list[str] = []
    seen: set[str] = set()
    for name in sorted(arrows):
        order += _finished(arrows, name, seen)
    seen, found = set(), []
    for name in reversed(order):
        members = sorted(_finished(back, name, seen))
        if len(members) > 1:
            found.append(members)
    return sorted(found)


def _finished(arrows: Mapping[str, Set[str]], start: str, seen: set[str]) -> list[str]:
    """What is reached from `start` and was not seen before, each behind all that it leads to."""
    if start in seen:
        return []
    seen.add(start)
    order: list[str] = []
    stack: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(arrows[start])))]
    while stack:
        name, targets = stack[-1]
        for target in targets:
            if target not in seen:
                seen.add(target)
                stack.append((target, iter(sorted(arrows[target]))))
                break
        else:
            order.append(name)
            stack.pop()
    return order
