"""Saved models: make one with experts, look into it, move experts in and out, export its graph."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.encoder import Encoder
from moe_retrieval.engines.bundled import find_model
from moe_retrieval.errors import MissingExtraError, UnknownDomainError, UsageError
from moe_retrieval.model.weights import feed_forward_name, read_tensors
from moe_retrieval.types import GENERAL, EngineName, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.model.source import ModelSource

PROBES = (
    "Treatment with aspirin lowered the rate of stroke over five years.",
    "Cells were kept in culture, and their receptors counted.",
    "The court held that the contract was void.",
    "A bridge of steel carries its load in tension and compression.",
    "Children who had the fever were given rest and water.",
    "The committee will publish its figures in spring.",
)
"""Texts under which the outputs of experts are compared, where the caller gives none."""

_SAME_WEIGHTS, _SAME_OUTPUT = 1e-4, 0.999999


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model is made of. `active`: parameters that one text goes through."""

    name: str
    family: str
    layers: int
    moe_layers: tuple[int, ...]
    dim: int
    max_length: int
    pooling: str
    routing: str
    top_k: int
    experts: Mapping[str, int]
    domains: Mapping[str, str]
    parameters: int
    active: int
    fingerprints: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ExpertPair:
    """Two experts. `distance`: of the weights, in parts of general's norm; `cosine`: of what each adds to
    general; `output`: mean cosine of the vectors of the same texts; `duplicate`: one could be dropped.
    """

    one: str
    other: str
    distance: float
    cosine: float
    output: float
    duplicate: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def upcycle_model(
    base: str,
    target: Path,
    *,
    domains: Sequence[str] = (),
    layers: str = "all",
    routing: str = "index",
    top_k: int = 1,
    rank: int = 0,
) -> ModelInfo:
    """Save a model that has an expert per domain, each a copy of what `base` has, and computes what it does.

    Args:
        base: "bundled", a model folder, or a hub id.
        target: a folder that is absent or empty.
        domains: names; each gets an expert of its own.
        layers: "all", "single" (the middle one), "every:N", or numbers like "0,3,5".
        routing: how texts reach the experts; see `moe_retrieval.model.configuration.ExpertFields`.
        top_k: experts that a learned gate joins.
        rank: above zero, experts are low-rank deltas of this rank.

    Raises:
        UsageError: a name or number is impossible, or the folder is not empty.
        ModelError: the base cannot be used.
    """
    from moe_retrieval.model import extend, surgery
    from moe_retrieval.model.configuration import choose_layers

    source = find_model(base)
    place = _fresh(target)
    try:
        chosen = choose_layers(layers, count=source.layers)
    except ValueError as error:
        raise UsageError(str(error), hint=f"{source.name} has {source.layers} layers") from error
    model = surgery.upcycle(source.folder, moe_layers=chosen)
    for domain in domains:
        surgery.add_domain(model, domain, rank=rank)
    if routing != "index":
        first = extend.first_token_of(source.tokenizer) if routing == "domain_token" else None
        extend.set_routing(model, routing, top_k=top_k, first_token=first)
    surgery.save(model, place, like=source.folder)
    return model_info(str(place))


def model_info(model: str) -> ModelInfo:
    """What a model folder, "bundled" or a hub id holds; no weights are loaded, torch is not imported.

    Raises:
        ModelError: the model cannot be used.
    """
    encoder = Encoder.load(model)
    source = encoder.source
    sizes = _sizes(source)
    shared = sizes.pop(-1)
    experts = {name: sizes.get(number, 0) for number, name in enumerate(source.experts)}
    running = source.roster.top_k if source.roster.learned else 1
    used = sorted(experts.values(), reverse=True)[:running]
    return ModelInfo(
        name=source.name,
        family=source.family,
        layers=source.layers,
        moe_layers=source.moe_layers,
        dim=source.dim,
        max_length=encoder.max_length,
        pooling=source.pooled(source.pooling),
        routing=source.routing,
        top_k=source.roster.top_k,
        experts=experts,
        domains=dict(source.domains),
        parameters=shared + sum(experts.values()),
        active=shared + sum(used),
        fingerprints={domain: encoder.fingerprint(domain) for domain in (GENERAL, *sorted(source.domains))},
    )


def _sizes(source: ModelSource) -> dict[int, int]:
    """Parameters by expert; -1: shared by all, feed-forwards of layers without experts included."""
    sizes: dict[int, int] = {-1: 0}
    for name, tensor in read_tensors(source.weights).items():
        place = feed_forward_name(name)
        expert = place.expert if place is not None and place.layer in source.moe_layers else -1
        count = 1
        for length in tensor.shape:
            count *= length
        sizes[expert] = sizes.get(expert, 0) + count
    return sizes


def compare_experts(model: str, *, texts: Sequence[str] = PROBES) -> list[ExpertPair]:
    """Every pair of experts of a model, the most alike first; a duplicate is one that could be dropped.

    Raises:
        ModelError: the model cannot be used.
    """
    from moe_retrieval.model.comparison import weight_similarities

    encoder = Encoder.load(model, precision=Precision.FP32, engine=EngineName.TORCH)
    source = encoder.source
    vectors = {}
    for name in source.experts if not source.roster.learned else ():
        domain = next((domain for domain, own in source.domains.items() if own == name), GENERAL)
        vectors[name] = encoder.encode_document(list(texts), domain=domain)
    pairs = []
    for alike in weight_similarities(source):
        both = alike.one in vectors and alike.other in vectors
        output = float((vectors[alike.one] * vectors[alike.other]).sum(axis=1).mean()) if both else 0.0
        same = alike.distance < _SAME_WEIGHTS or output > _SAME_OUTPUT
        pairs.append(ExpertPair(alike.one, alike.other, alike.distance, alike.cosine, output, same))
    return sorted(pairs, key=lambda pair: (pair.distance, pair.one, pair.other))


def export_expert(model: str, domain: str, target: Path) -> Path:
    """Write the expert of a domain as a pack, `<target>/<sha256>`; returns that folder.

    Raises:
        UnknownDomainError: the model has no such domain.
    """
    from moe_retrieval.model import surgery

    source = find_model(model)
    if domain not in source.domains:
        raise UnknownDomainError(domain, source.domains)
    sha = surgery.export_expert(surgery.load(source.folder), source.domains[domain], target)
    return target / sha


def import_expert(model: str, packs: Mapping[str, Path], target: Path) -> ModelInfo:
    """Save a model with the experts of packs (domain -> folder) added to those it has.

    Raises:
        UsageError: the model has such a domain already, or the target is not empty.
        ModelMismatchError: an expert was trained on another trunk.
    """
    from moe_retrieval.model import surgery

    source = find_model(model)
    if known := sorted(set(packs) & set(source.domains)):
        raise UsageError(
            f"the model has an expert for {known[0]!r} already", hint="give the pack another domain"
        )
    place = _fresh(target)
    edited = surgery.load(source.folder)
    for domain, pack in packs.items():
        surgery.import_expert(edited, pack, name=domain)
        surgery.assign(edited, domain, domain)
    surgery.save(edited, place, like=source.folder)
    return model_info(str(place))


def export_onnx(model: str, target: Path, *, domain: str = GENERAL) -> Path:
    """Write the graph of one domain, `model.onnx` and its weights beside it, to an absent or empty folder.

    Inputs: input_ids, attention_mask, int64 (batch, tokens); output: hidden, float32 (batch, tokens, width).

    Raises:
        MissingExtraError: onnx is not installed.
        UnknownDomainError: the model has no such domain.
    """
    encoder = Encoder.load(model, device="cpu", precision=Precision.FP32)
    if domain not in (GENERAL, *encoder.domains):
        raise UnknownDomainError(domain, (GENERAL, *encoder.domains))
    try:
        from moe_retrieval.engines.onnx_engine import OnnxRuntime, write_graph

        with tempfile.TemporaryDirectory() as scratch:
            runtime = OnnxRuntime(encoder.source, trunk="", precision=Precision.FP32, cache=Path(scratch))
            graph = runtime.export(encoder.experts.places.get(encoder.expert_of(domain), 0))
    except ImportError as error:
        raise MissingExtraError("onnxruntime", extra="onnx", purpose="exporting a graph") from error
    return write_graph(graph, _fresh(target))


def _fresh(folder: Path) -> Path:
    """A folder that is there and empty.

    Raises:
        UsageError: it holds something, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", hint="give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
