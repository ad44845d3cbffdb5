"""Experts for the crash tests, and the graphs that their encoders run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_retrieval import Encoder
from moe_retrieval.types import GENERAL, Precision
from tests.flows.crash_corpus import DOMAINS
from tests.tiny_model import different


@dataclass(frozen=True)
class Models:
    """A model, folders of experts for it by domain, and the folder of the engine's graphs.

    The graphs are made here, so that the children need not read in torch: that is most of a start.
    """

    base: Path
    graphs: Path
    packs: Mapping[str, Sequence[Path]]

    @classmethod
    def build(cls, base: Path, folder: Path, *, each: int) -> Models:
        """With so many experts for each domain."""
        from moe_retrieval.model.surgery import export_expert, upcycle

        packs: dict[str, list[Path]] = {domain: [] for domain in DOMAINS}
        for turn in range(each):
            model = different(upcycle(base), *DOMAINS[turn:], *DOMAINS[:turn])
            for domain in DOMAINS:
                packs[domain].append(folder / export_expert(model, domain, folder))
        found = cls(base, folder / "graphs", packs)
        for domain in DOMAINS:
            for expert in (GENERAL, *(pack.name for pack in packs[domain])):
                found.encoder(domain, expert).encode_document(["warm"], domain=domain)
        return found

    def encoder(self, domain: str, expert: str) -> Encoder:
        """One with an expert, named by its sha or general, for a domain."""
        chosen = {pack.name: {domain: pack} for pack in self.packs[domain]}
        experts = {} if expert == GENERAL else chosen[expert]
        return Encoder.load(self.base, experts=experts, precision=Precision.FP32, cache=self.graphs)
