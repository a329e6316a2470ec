"""What scripts/soak judges: two looks at everything, and what may have changed between them. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    wanted: str
    found: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Look:
    """The hub and the host at a time: sets of names, and the most that there was of what is used up."""

    names: Mapping[str, frozenset[str]]
    used: Mapping[str, Counter[str]]
    megabytes: Mapping[str, float]


def compare(
    first: Look, last: Look, slack: Mapping[str, float], leavers: tuple[str, ...], *, forgotten: bool
) -> list[Row]:
    """Return what became of what there was after the first hour, but for what was to be forgotten since."""
    gone = leavers if forgotten else ()
    rows = [_compare_names(what, first.names[what], last.names[what], gone) for what in first.names]
    rows += [_forgotten(last.names["unique ids"], leavers, forgotten=forgotten)] if leavers else []
    for what, before in first.used.items():
        more = last.used[what] - before
        rows.append(Row(what, f"{before.total()}", _counted(last.used[what].total(), more), ok=not more))
    for side, before in first.megabytes.items():
        now, most = last.megabytes[side], before + slack[side]
        rows.append(Row(f"memory of the {side}", f"≤ {most:.1f} MB", f"{now:.1f} MB", ok=now <= most))
    return rows


def _forgotten(unique_ids: frozenset[str], leavers: tuple[str, ...], *, forgotten: bool) -> Row:
    """Return whether what was taken away is forgotten, or remembered where it is too early."""
    known = [leaver for leaver in leavers if any(leaver in each for each in unique_ids)]
    wanted = "" if forgotten else ", ".join(leavers)
    return Row(
        "of what was taken away", wanted or "forgotten", ", ".join(known) or "forgotten", ok=wanted == ", ".join(known)
    )


def _compare_names(what: str, before: frozenset[str], now: frozenset[str], gone: tuple[str, ...]) -> Row:
    """Return whether the names are the same, less those of what is gone."""
    kept = frozenset(name for name in before if not any(leaver in name for leaver in gone))
    changed = [f"-{name}" for name in sorted(kept - now)] + [f"+{name}" for name in sorted(now - kept)]
    return Row(what, f"{len(kept)}", " ".join([f"{len(now)}", *changed]), ok=not changed)


def _counted(total: int, more: Counter[str]) -> str:
    """Return a number, and what there is more of."""
    return " ".join([f"{total}", *(f"+{count} {name}" for name, count in more.items())])


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    wide = max(len(row.what) for row in rows), max(len(row.wanted) for row in rows)
    return "\n".join(
        f"{'ok  ' if row.ok else 'FAIL'}  {row.what:{wide[0]}}  {row.wanted:>{wide[1]}}  {row.found}" for row in rows
    )
