"""The documents of the crash tests: texts that can be computed again from a document's name and version."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

from tests.tiny_model import WORDS

DOMAINS = ("heart", "lung", "skin")
LONGEST, MOST_CHUNKS = 90, 6
"""Words of the longest document, and the chunks it can have with the tiny model's 32 tokens."""

State = tuple[str, int]
"""Where a document is and what it says: domain and version."""
Contents = Mapping[str, State]


def text_of(name: str, version: int) -> str:
    """The text of one version of a document; no two versions of any documents share one."""
    draw = random.Random(f"{name} {version}")
    words = draw.choices(WORDS, k=draw.randint(5, LONGEST))
    return f"{name} v{version} {' '.join(words)}"


def queries(count: int = 40) -> list[str]:
    """Texts to ask for, always the same ones."""
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(count)]


def write_corpus(path: Path, contents: Contents, *, order: list[str]) -> None:
    """One line per document, in this order, in one step: a reader sees the old file or the new one."""
    lines = []
    for name in order:
        domain, version = contents[name]
        record = {"_id": name, "text": text_of(name, version), "domain": domain, "version": version}
        lines.append(json.dumps(record) + "\n")
    aside = path.with_suffix(".tmp")
    aside.write_text("".join(lines), "utf-8")
    aside.replace(path)


class Author:
    """Changes documents at random; every change is a version that never was before."""

    def __init__(self, draw: random.Random, *, documents: int = 90) -> None:
        self.draw, self.documents = draw, documents
        self.version = 0
        self.names = 0

    def change(self, contents: Contents, *, share: float) -> dict[str, State]:
        """As `contents`, with about `share` of the documents changed, moved or deleted, and new ones."""
        fresh: dict[str, State] = {}
        for name, (domain, version) in contents.items():
            match self.draw.random() / share:
                case chance if chance < 0.15:
                    continue  # deleted
                case chance if chance < 0.35:
                    fresh[name] = (self._another(domain), self._next() if chance < 0.25 else version)
                case chance if chance < 1:
                    fresh[name] = (domain, self._next())
                case _:
                    fresh[name] = (domain, version)
        return fresh | self._new(self.documents - len(fresh))

    def touch(self, contents: Contents, *, count: int) -> dict[str, State]:
        """New versions of a few documents, nothing else."""
        chosen = self.draw.sample(sorted(contents), k=min(count, len(contents)))
        return {name: (contents[name][0], self._next()) for name in chosen}

    def order(self, contents: Contents) -> list[str]:
        names = sorted(contents)
        self.draw.shuffle(names)
        return names

    def _new(self, room: int) -> dict[str, State]:
        made = {}
        for _ in range(max(room, 0)):
            self.names += 1
            made[f"d{self.names}"] = (self.draw.choice(DOMAINS), self._next())
        return made

    def _another(self, domain: str) -> str:
        return self.draw.choice([one for one in DOMAINS if one != domain])

    def _next(self) -> int:
        self.version += 1
        return self.version
