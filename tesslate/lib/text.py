"""Text that people typed, made fit for where it goes."""


def one_line(text: str) -> str:
    """The words with one blank between them: a line break would end a mail's header early."""
    return " ".join(text.split())


def whole_number(text: str) -> int | None:
    """The number that the digits are; None for anything else, and for more than a bigint holds."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None
