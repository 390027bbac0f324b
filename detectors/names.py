"""Names of models and versions."""

MAX_NAME = 128
"""Characters of a model's or a version's name."""
NAME_RULE = f"1 to {MAX_NAME} printable characters and no '|'"


def is_name(text: str) -> bool:
    r"""Whether a text can name a model or a version: short, printable, without the separator of Kafka keys.

    Examples
    --------
    >>> is_name("churn"), is_name("a\x00b"), is_name("a|b"), is_name("")
    (True, False, False, False)
    """
    return 0 < len(text) <= MAX_NAME and text.isprintable() and "|" not in text
