"""What the doctor says: one finding per thing looked at, with a level, and a cure where one is needed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `level` is ok, warning or failed."""

    level: str
    subject: str
    message: str
    cure: str = ""

    @property
    def failed(self) -> bool:
        return self.level == FAILED

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
