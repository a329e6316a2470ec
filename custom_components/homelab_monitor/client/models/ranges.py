"""Ranges of numbers: every difference and every share of reported values is within its range, or absent.

A host's numbers may be inconsistent: lxcfs reports more memory available than there is, a filesystem in user space
more blocks free than it has. Values computed from such numbers would be absurd.
"""


def within[Number: (int, float)](value: Number | None, least: float, most: float | None) -> Number | None:
    """Return the value if it is between the two, else None."""
    return value if value is not None and most is not None and least <= value <= most else None


def difference[Number: (int, float)](whole: Number | None, part: Number | None) -> Number | None:
    """Return the whole without a part of it, None if that is no part of it."""
    if whole is None or within(part, 0, whole) is None or part is None:
        return None
    return whole - part


def percent(part: float | None, whole: float | None) -> float | None:
    """Return `part` of `whole` in percent, None if the whole is 0 or that is no part of it."""
    if not whole or within(part, 0, whole) is None or part is None:
        return None
    return min(100.0, 100.0 * part / whole)  # it may be rounded up
