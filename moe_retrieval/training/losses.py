"""Contrastive losses over a batch of pairs: what belongs together must score above everything else in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional

_COSINE_START, _DOT_START = 0.05, 0.7


class LossName(StrEnum):
    """What the scores of a batch are held against.

    `mnr`: each a finds its b among all b (multiple negatives ranking; Henderson et al., arXiv 1705.00652);
    `symmetric`: each b finds its a, too (Radford et al., CLIP, ICML 2021); `mnr-plus`: the target of a row is
    the row that its texts, by themselves, are most like (Hallee et al., arXiv 2401.15713); `triplet`: a is
    nearer to b than to the hardest text of the batch, by a margin.
    """

    MNR = "mnr"
    SYMMETRIC = "symmetric"
    MNR_PLUS = "mnr-plus"
    TRIPLET = "triplet"


class Similarity(StrEnum):
    """How two vectors are compared."""

    COSINE = "cosine"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class LossOptions:
    """A loss. `temperature` divides the scores, None: the usual start; `learned`: it is trained, too."""

    name: LossName = LossName.MNR
    similarity: Similarity = Similarity.COSINE
    temperature: float | None = None
    learned: bool = False
    margin: float = 0.2

    @property
    def start(self) -> float:
        """The temperature at the start: 0.05 for cosines, the paper's 0.7 for dot products."""
        usual = _COSINE_START if self.similarity is Similarity.COSINE else _DOT_START
        return usual if self.temperature is None else self.temperature


class ContrastiveLoss(nn.Module):
    """A loss of `LossOptions` as a module, so that a learned temperature is one of its parameters."""

    def __init__(self, options: LossOptions) -> None:
        super().__init__()
        self.options = options
        start = torch.tensor(float(options.start)).log()
        if options.learned:
            self.log_temperature = nn.Parameter(start)  # its exponential cannot become negative
        else:
            self.register_buffer("log_temperature", start, persistent=False)

    def forward(self, a: Tensor, b: Tensor, negatives: Tensor | None = None) -> Tensor:
        """The mean over the batch; a and b (n, dim): row i of each belong together, row i and j do not.

        `negatives` (m, dim): texts that belong to none of a; they compete with the b.
        """
        a, b = a.float(), b.float()
        others = b if negatives is None else torch.cat([b, negatives.float()])
        if self.options.similarity is Similarity.COSINE:
            a, b, others = (functional.normalize(part, dim=-1) for part in (a, b, others))
        if self.options.name is LossName.TRIPLET:
            return self._triplet(a @ others.T)
        scores = (a @ others.T) / self.log_temperature.exp()  # (n, n + m)
        if self.options.name is LossName.MNR_PLUS:
            return functional.cross_entropy(scores, plus_targets(a, b))
        targets = torch.arange(len(a), device=a.device)
        loss = functional.cross_entropy(scores, targets)
        if self.options.name is LossName.SYMMETRIC:
            loss = (loss + functional.cross_entropy(scores[:, : len(a)].T, targets)) / 2
        return loss

    def _triplet(self, scores: Tensor) -> Tensor:
        own = scores.diagonal().unsqueeze(1)
        apart = torch.eye(len(scores), scores.shape[1], dtype=torch.bool, device=scores.device)
        hardest = scores.masked_fill(apart, -torch.inf).max(dim=1, keepdim=True).values
        return functional.relu(hardest - own + self.options.margin).mean()


def plus_targets(a: Tensor, b: Tensor) -> Tensor:
    """For each row the row that it is most like: argmax of softmax((a a^T + b b^T) / 2), (n,)."""
    with torch.no_grad():
        alike = torch.softmax((a @ a.T + b @ b.T) / 2, dim=-1)
        return alike.argmax(dim=-1)
