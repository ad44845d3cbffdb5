"""What an encoder asks of whatever computes its vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from moe_retrieval.engines.batches import Budget


class Engine(Protocol):
    """A loaded model. `embed` may be called from several threads."""

    @property
    def budget(self) -> Budget:
        """How much one call should carry to be fast."""
        ...

    def prepare(self, expert: str) -> None:
        """Read what the expert's first text would wait for.

        Raises:
            ModelError: the expert is unknown, or does not fit the model.
        """
        ...

    def embed(self, token_ids: Sequence[Sequence[int]], *, experts: Sequence[str]) -> NDArray[np.float32]:
        """Pooled vectors (experts, n, dim), not normalised, of the same texts under each expert; token ids
        include the special tokens.
        """
        ...
