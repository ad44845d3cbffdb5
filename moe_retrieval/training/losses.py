"""Contrastive losses over a batch of pairs: what belongs together must score above everything else in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_retrieval.training.options import LossName, LossOptions, Similarity


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
