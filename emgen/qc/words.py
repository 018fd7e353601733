"""Numbers as the report prints them."""

from __future__ import annotations


def number(value: float, form: str) -> str:
    """A number in a format such as ".2f", with a true minus sign.

    >>> number(-0.25, "+.1f"), number(-0.01, "+.1f")
    ('−0.2', '0.0')
    """
    text = format(value, form)
    # what is rounded to nothing has no sign
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best.

    >>> duration(4.21), duration(93), duration(7260)
    ('4.2 s', '1 min 33 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, thing: str) -> str:
    """A number and the things that it counts.

    >>> plural(1, "tile"), plural(2000, "tile")
    ('1 tile', '2 000 tiles')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}".replace(",", " ")


def percent(share: float) -> str:
    """A share in per cent: whole numbers from 1 % on, two digits below.

    >>> percent(0.875), percent(0.00123)
    ('88 %', '0.12 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def times(sizes: tuple[int, ...]) -> str:
    """A shape.

    >>> times((24, 32, 40))
    '24 × 32 × 40'
    """
    return " × ".join(map(str, sizes))


def opened(sentence: str) -> str:
    """A sentence with its first letter a capital and a full stop at its end.

    >>> opened("1 tile of FIB-SEM")
    '1 tile of FIB-SEM.'
    """
    return f"{sentence[:1].upper()}{sentence[1:]}."
