# SPDX-License-Identifier: GPL-2.0-or-later
"""Cost tables: what primitive events cost on a processor, in cycles, and who says so.

A table is a TOML file in `costs/`, or anywhere a user keeps one. It prices *primitives* only: what hardware or a
monitor does over and over, whatever the benchmark. An entry with a benchmark's name is refused, at any depth:
a table that knows the answers proves nothing. For the same reason no number may be fitted to the published results it
is compared with. Those are in `published/`, which this module does not read.

Each entry has `cycles` and a `source`: where the number is published, or `derived:` with the arithmetic. `verified`
says that somebody looked its figures up at the source. The table of a processor that cannot run a technique says so in
`[lacks]`, and needs no prices that only that technique needs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from pvhv.compare.errors import CostTableError, nearest, shown, unknown
from pvhv.compare.names import BENCHES, DEPRIVILEGED, HARDWARE, NESTED, SHADOW, TECHNIQUES, TRANSLATION, TRAP

DIRECTORY: Final = Path(__file__).parent / "costs"
EVERYBODY: Final = frozenset(TECHNIQUES)
SHADOWED: Final = frozenset({TRAP, TRANSLATION, SHADOW})

# Each primitive: what it is, and which techniques need its price.
PRIMITIVES: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "guest_instruction": ("a guest instruction, caches warm", EVERYBODY),
    "ring_crossing": ("SYSCALL or SYSRET (SYSENTER, INT), one way", EVERYBODY),
    "fault_delivery": ("an exception through the IDT by hardware, and its IRET", EVERYBODY),
    "interrupt_delivery": ("an interrupt through the IDT by hardware, and its IRET", EVERYBODY),
    "software_delivery": ("a monitor builds the frame and enters the guest's handler", DEPRIVILEGED),
    "page_walk_step": ("a page-table entry read by the monitor", EVERYBODY),
    "pte_write": ("a page-table entry changed by the monitor", EVERYBODY),
    "tlb_flush": ("CR3 written, and translations found again", EVERYBODY),
    "tlb_page_flush": ("INVLPG, and the translation found again", EVERYBODY),
    "emulated_instruction": ("the monitor decodes and interprets a guest instruction", SHADOWED | HARDWARE),
    "shadow_fill": ("an entry made in the shadow tables", SHADOWED),
    "nested_fill": ("an entry made in the nested tables", frozenset({NESTED})),
    "translated_block": ("a block of guest code translated", frozenset({TRANSLATION})),
    "callout.inline": ("rewritten code that works on the virtual CPU in memory", frozenset({TRANSLATION})),
    "callout.runtime": ("rewritten code that calls the monitor's run-time, without a trap", frozenset({TRANSLATION})),
    "exit.hardware": ("from guest mode to the monitor and back", HARDWARE),
    "exit.fault": ("an exception into the monitor, and the IRET back", DEPRIVILEGED),
    "exit.system_call": ("SYSCALL or a hypercall into the monitor, and the way back", DEPRIVILEGED),
    "exit.interrupt": ("an interrupt into the monitor, and the IRET back", DEPRIVILEGED),
}
BY_REASON: Final = "exit.hardware_by_reason"  # optional: #VMEXIT names with prices of their own, which are:
HARDWARE_EXITS: Final = (
    "PF", "NPF", "CR0_READ", "CR0_WRITE", "CR3_READ", "CR3_WRITE", "CR4_READ", "CR4_WRITE", "CR8_WRITE", "INVLPG",
    "IOIO", "MSR", "CPUID", "HLT", "INTR", "VINTR",
)  # fmt: skip
_GROUPS: Final = ("exit", "callout", BY_REASON)
_TOP: Final = ("title", "lacks", *dict.fromkeys(name.partition(".")[0] for name in PRIMITIVES))
_ENTRY_KEYS: Final = ("cycles", "source", "verified")
MOST_CYCLES: Final = 10**12
MOST_DECIMALS: Final = 12


@dataclass(frozen=True)
class Price:
    """What one event costs, and who says so."""

    cycles: Fraction
    source: str
    verified: bool = False

    @property
    def derived(self) -> bool:
        return self.source.startswith("derived:")


@dataclass(frozen=True)
class CostTable:
    """A named table of prices."""

    name: str
    title: str
    prices: Mapping[str, Price]
    lacks: Mapping[str, str] = field(default_factory=dict)

    def price(self, primitive: str, reason: str = "") -> Price:
        """The price of a primitive. A hardware exit has the price of its `reason`, if the table has one."""
        if primitive == "exit.hardware":
            return self.prices.get(f"{BY_REASON}.{reason}", self.prices[primitive])
        return self.prices[primitive]

    def provenance(self) -> str:
        """How far the table can be trusted, in a line."""
        derived = sum(price.derived for price in self.prices.values())
        verified = sum(price.verified for price in self.prices.values())
        return (
            f"{len(self.prices)} prices, {derived} of them derived; "
            f"the figures behind {verified} were looked up at their source, the others are cited unchecked or assumed"
        )


def names() -> tuple[str, ...]:
    """The tables that come with pvhv."""
    return tuple(sorted(path.stem for path in DIRECTORY.glob("*.toml")))


def load(name: str) -> CostTable:
    """A table by name, or by the path of a TOML file."""
    if name in names():
        return read(DIRECTORY / f"{name}.toml")
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return read(Path(name))
    raise unknown("cost table", name, names())


def read(path: Path) -> CostTable:
    """A table from a TOML file. Raises CostTableError."""
    try:
        with path.open("rb") as file:
            data = tomllib.load(file, parse_float=Decimal)
    except (OSError, ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CostTableError(f"{shown(str(path))}: {reason}") from None
    return parse(data, path.stem, str(path))


def parse(data: Mapping[str, Any], name: str, where: str) -> CostTable:
    """A table from the contents of its file; `where` begins every error message. Raises CostTableError."""
    _refuse_benchmarks(data, where)
    for key in data:
        if key not in _TOP:
            raise _unknown_key(where, key, _TOP)
    title = data.get("title")
    if not isinstance(title, str) or not title:
        raise CostTableError(f"{where}: 'title' is missing", "it says which processor the prices are of")
    lacks = _lacks(data.get("lacks", {}), where)
    prices = {key: _price(entry, where, key) for key, entry in _entries(data, "", where)}
    for primitive, (meaning, needed_by) in PRIMITIVES.items():
        if primitive not in prices and needed_by - set(lacks):
            needed = ", ".join(technique for technique in TECHNIQUES if technique in needed_by - set(lacks))
            raise CostTableError(f"{where}: '{primitive}' is missing ({meaning})", f"needed for {needed}")
    return CostTable(name, title, prices, lacks)


def _entries(table: Mapping[str, Any], prefix: str, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All entries of a table as (full name, entry)."""
    for key, value in table.items():
        full = f"{prefix}{key}"
        if not prefix and key in ("title", "lacks"):
            continue
        if not isinstance(value, dict):
            hint = f"write [{full}] with cycles and source"
            raise CostTableError(f"{where}: '{full}' is not a table", hint)
        if full in _GROUPS:
            yield from _entries(value, f"{full}.", where)
        elif full in PRIMITIVES or (prefix == f"{BY_REASON}." and key in HARDWARE_EXITS):
            yield full, value
        elif prefix == f"{BY_REASON}.":
            raise _unknown_key(where, key, HARDWARE_EXITS, prefix)
        else:
            known = [each.removeprefix(prefix) for each in (*PRIMITIVES, BY_REASON) if each.startswith(prefix)]
            raise _unknown_key(where, key, known, prefix)


def _price(entry: Mapping[str, Any], where: str, name: str) -> Price:
    for key in entry:
        if key not in _ENTRY_KEYS:
            raise _unknown_key(where, key, _ENTRY_KEYS, f"{name}.")
    cycles, source, verified = entry.get("cycles"), entry.get("source"), entry.get("verified", False)
    if cycles is None:
        raise CostTableError(f"{where}: '{name}' has no cycles")
    if type(cycles) not in (int, Decimal) or not Decimal(cycles).is_finite():
        raise CostTableError(f"{where}: '{name}': cycles is {cycles!r}, which is not a number")
    if cycles < 0:
        raise CostTableError(f"{where}: '{name}': cycles is {cycles}, which is negative")
    if cycles > MOST_CYCLES or int(Decimal(cycles).as_tuple().exponent) < -MOST_DECIMALS:
        raise CostTableError(
            f"{where}: '{name}': cycles is too large or too precise",
            f"at most 10^12, and {MOST_DECIMALS} decimals",
        )
    if not isinstance(source, str) or not source.removeprefix("derived:").strip():
        raise CostTableError(f"{where}: '{name}' has no source", "say where it was published, or 'derived:' and how")
    if not isinstance(verified, bool):
        raise CostTableError(f"{where}: '{name}': verified is {verified!r}, neither true nor false")
    return Price(Fraction(cycles), source, verified)


def _lacks(lacks: Any, where: str) -> dict[str, str]:
    if not isinstance(lacks, dict):
        raise CostTableError(f"{where}: 'lacks' is not a table", "write [lacks] with lines like hw-nested = \"why\"")
    for technique, why in lacks.items():
        if technique not in TECHNIQUES:
            raise _unknown_key(where, technique, TECHNIQUES, "lacks.")
        if not isinstance(why, str) or not why:
            raise CostTableError(f"{where}: 'lacks.{technique}' does not say why")
    return dict(lacks)


def _refuse_benchmarks(table: Mapping[str, Any], where: str, prefix: str = "") -> None:
    """Raise CostTableError for an entry named after a benchmark, in any spelling."""
    plain = {_plain(bench): bench for bench in BENCHES}
    for key, value in table.items():
        if _plain(key) in plain:
            raise CostTableError(
                f"{where}: '{prefix}{shown(key)}' is named after the benchmark {plain[_plain(key)]}",
                "a cost table prices primitives, not benchmarks",
            )
        if isinstance(value, dict):
            _refuse_benchmarks(value, where, f"{prefix}{key}.")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _unknown_key(where: str, key: str, known: Any, prefix: str = "") -> CostTableError:
    near = nearest(key, known)
    hint = f"did you mean '{prefix}{near}'?" if near else f"known: {', '.join(known)}"
    return CostTableError(f"{where}: unknown key '{prefix}{shown(key)}'", hint)
