"""Text that people typed, made fit for where it goes."""


def one_line(text: str) -> str:
    """The words with one blank between them: a line break would end a mail's header early."""
    return " ".join(text.split())
