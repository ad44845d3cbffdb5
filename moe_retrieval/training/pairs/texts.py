"""When two texts count as the same, and when a text says too little to learn from."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1 << 16)
def folded(text: str) -> str:
    """The text without regard to case and white space: two texts with one folded form are the same text."""
    return " ".join(text.casefold().split())


def joined(title: str, abstract: str) -> str:
    """A paper as it is embedded: title, blank, abstract."""
    return f"{title.strip()} {abstract.strip()}".strip()


def is_whole(text: str) -> bool:
    """Whether the text can be written as UTF-8; half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
