"""Bytes and seconds in words."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes in powers of a thousand."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:,.0f} {units[0]}" if count >= 100 else f"{count:.3g} {units[0]}"


def duration(seconds: float) -> str:
    """Seconds in three digits, or parts of them; minutes and hours roughly."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"
