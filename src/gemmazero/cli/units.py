"""Numbers as people read them."""


def duration(seconds: float) -> str:
    """``4.2s``, ``2m 05s``, ``3h 10m``."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60:,}h {minutes % 60:02d}m"


def size(count: float) -> str:
    """``512 B``, ``1.4 GB``: decimal units."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"), " ")


def amount(count: float) -> str:
    """``980``, ``1.3M``, ``15.1B``."""
    return _scaled(count, ("", "k", "M", "B", "T"), "")


def counted(count: int, noun: str) -> str:
    """``1 document``, ``2,000 documents``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _scaled(count: float, units: tuple[str, ...], gap: str) -> str:
    if count < 1000:
        return f"{count:.0f}{gap}{units[0]}"
    power = 0
    while count >= 999.95 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:,.1f}{gap}{units[power]}"
