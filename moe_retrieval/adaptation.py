"""Adapt a store's encoder, or any model: what `moeret train` does, as Python calls."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.pairs import read_pairs, write_pairs
from moe_retrieval.encoder import Encoder
from moe_retrieval.errors import NothingFoundError, UsageError
from moe_retrieval.hashing import file_sha256
from moe_retrieval.storage.durability import write_atomically
from moe_retrieval.training.card import markdown, notes
from moe_retrieval.training.material import TrainingPairs
from moe_retrieval.training.options import Recipe, TrainOptions
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.moeret import Moeret
    from moe_retrieval.training.outcome import Outcome
    from moe_retrieval.training.pairs.negatives import MinedPairs
    from moe_retrieval.training.trainer import Progress

_CARD = "README.md"


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training did. `expert`: sha256 of the candidate, empty where the gate refused it or a model was
    made; `model`: folder of that model; `new`: the store has no table of the domain yet.
    """

    domains: tuple[str, ...]
    outcome: Outcome
    expert: str = ""
    model: str = ""
    new: bool = False

    def to_dict(self) -> dict[str, Any]:
        said = {"domains": list(self.domains), "expert": self.expert, "model": self.model, "new": self.new}
        return said | self.outcome.to_dict()


def train_expert(
    moeret: Moeret,
    domain: str,
    *,
    pairs: str | Path,
    options: TrainOptions | None = None,
    licence: str = "",
    tell: Callable[[str, Progress], None] = lambda _what, _progress: None,
) -> TrainReport:
    """Train an expert for one domain of a store on the frozen encoder, and register it as candidate.

    The next `reindex` embeds the domain with it; a domain that has no table yet gets it with the first
    `index`. An expert that is not better than `general` on validation is not registered. A training that was
    killed goes on when the same call is made again.

    Raises:
        UsageError: the pairs are too few, of the test split or not disjoint; the domain cannot have the name.
        MissingExtraError: accelerate or ir_measures is not installed.
    """
    options = options or TrainOptions()
    name = _domain(domain)
    encoder = moeret.encoder()
    found = TrainingPairs.open(Path(pairs), domain=name, seed=options.fit.seed).only([name])
    scratch = _scratch(moeret.settings.store) / _key(encoder, found, [name], options)
    outcome = _run(encoder, found, [name], options=options, folder=scratch, tell=tell)
    sha = ""
    if name in outcome.accepted and _writes():
        facts = notes(outcome, options=options, data=_data(pairs, found), licence=licence, base=encoder.name)
        pack = _exported(outcome, name, scratch / "pack", facts)
        moeret.register_expert(name, pack)
        sha = pack.name
    if _writes():
        shutil.rmtree(scratch, ignore_errors=True)
    return TrainReport((name,), outcome, expert=sha, new=name not in _tables(moeret))


def train_model(
    base: str | Path | None,
    *,
    pairs: str | Path,
    output: Path,
    recipe: Recipe | str,
    domains: Sequence[str] = (),
    options: TrainOptions | None = None,
    licence: str = "",
    tell: Callable[[str, Progress], None] = lambda _what, _progress: None,
) -> TrainReport:
    """Train a model with all its domains, by any recipe, and save it to a new folder.

    `base`: None or "bundled", a model folder, or a hub id; `domains`: of the pairs, none: all of them.

    Raises:
        UsageError: the folder holds something else than an unfinished training of the same call; the pairs
            are too few, of the test split or not disjoint.
        ModelError: the base cannot be used.
    """
    from moe_retrieval.model import surgery

    options = replace(options or TrainOptions(), recipe=Recipe(recipe))
    encoder = Encoder.load(base)
    found = TrainingPairs.open(Path(pairs), seed=options.fit.seed)
    names = [_domain(domain) for domain in domains] or list(found.counts())
    scratch = output / f".training-{_key(encoder, found, names, options)}"
    _check_output(output, scratch)
    outcome = _run(encoder, found.only(names), names, options=options, folder=scratch, tell=tell)
    if _writes():
        facts = notes(outcome, options=options, data=_data(pairs, found), licence=licence, base=encoder.name)
        surgery.save(outcome.model, output, like=encoder.source.folder, head=outcome.head)
        card = (output / _CARD).read_text("utf-8")
        training = markdown(facts, outcome.verdicts, outcome.gains)
        write_atomically(output / "TRAINING.md", training.encode())
        write_atomically(output / _CARD, f"{card.rstrip()}\n\nTraining: see TRAINING.md.\n".encode())
        shutil.rmtree(scratch, ignore_errors=True)
    return TrainReport(tuple(names), outcome, model=str(output))


def mine_pairs(
    moeret: Moeret | None,
    pairs: str | Path,
    output: Path,
    *,
    encoder: Encoder | None = None,
    per_pair: int = 4,
    depth: int = 100,
    margin: float = 0.95,
    progress: Callable[[int], None] | None = None,
) -> MinedPairs:
    """Write a folder of pairs again, its training pairs with hard negatives.

    They come from the domain's own table of a store, or, without `moeret`, from the pairs' own texts by
    `encoder`. No document of validation or test becomes a negative.

    Raises:
        UsageError: `pairs` is no folder of pairs, or the new folder holds something.
        UnknownDomainError: the store has no such domain.
    """
    from moe_retrieval.training.pairs.negatives import MiningOptions, mine_from_pool, mine_negatives

    folder = Path(pairs)
    _check_output(output)
    train = read_pairs(folder / "train.jsonl")
    held = [pair for name in ("validation", "test") for pair in _some_pairs(folder / f"{name}.jsonl")]
    names = {name for pair in held for name in (*pair.documents, pair.a, pair.b)}
    options = MiningOptions(margin=margin, excluded=frozenset(names))
    how: dict[str, Any] = {"per_pair": per_pair, "depth": depth, "options": options, "progress": progress}
    if moeret is None:
        found = mine_from_pool(train, encoder=encoder or Encoder.load(), **how)
    else:
        snapshot = moeret.retriever.snapshot()
        found = mine_negatives(
            train,
            store=moeret.store,
            generation=snapshot.generation,
            encoder=snapshot.encoder,
            notify=moeret.notify,
            **how,
        )
    write_pairs(output / "train.jsonl", found.pairs)
    for name in ("validation.jsonl", "test.jsonl"):
        shutil.copyfile(folder / name, output / name)
    report = json.loads((folder / "report.json").read_text("utf-8")) | {"negatives": found.to_dict()}
    write_atomically(output / "report.json", json.dumps(report, indent=1).encode())
    return found


def _some_pairs(path: Path) -> list[Pair]:
    """The pairs of a file that may be empty."""
    return read_pairs(path) if path.is_file() and path.stat().st_size else []


def _run(
    encoder: Encoder,
    pairs: TrainingPairs,
    domains: Sequence[str],
    *,
    options: TrainOptions,
    folder: Path,
    tell: Callable[[str, Progress], None],
) -> Outcome:
    _check_extra()
    from moe_retrieval.training import recipes

    prompts = {"query": encoder.query_prompt, "document": encoder.document_prompt}
    shop = recipes.Workshop(
        encoder.source,
        pairs,
        tuple(domains),
        replace(options, max_length=min(options.max_length, encoder.max_length)),
        folder,
        prompts=prompts,
        tell=tell,
    )
    return recipes.run(shop)


def _exported(outcome: Outcome, domain: str, folder: Path, facts: Mapping[str, Any]) -> Path:
    from moe_retrieval.model import surgery

    sha = surgery.export_expert(outcome.model, domain, folder, card=facts)
    text = markdown(facts, outcome.verdicts, outcome.gains)
    write_atomically(folder / sha / _CARD, text.encode())
    return folder / sha


def _check_extra() -> None:
    """Training needs what the extra `train` brings.

    Raises:
        MissingExtraError: it is not installed.
    """
    from importlib.util import find_spec

    from moe_retrieval.errors import MissingExtraError

    for package in ("accelerate", "ir_measures"):
        if find_spec(package) is None:
            raise MissingExtraError(package, extra="train", purpose="training")


def _check_output(output: Path, scratch: Path | None = None) -> None:
    """Refuse a folder that holds anything but `scratch`.

    Raises:
        UsageError: it does, or is a file.
    """
    if output.is_dir() and any(path != scratch for path in output.iterdir()):
        raise UsageError(f"{output} is there already", hint="give a new folder")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file", hint="give a new folder")


def _writes() -> bool:
    from moe_retrieval.training.trainer import is_first_process

    return is_first_process()


def _domain(name: str) -> str:
    if not (plain := slug(name)):
        raise UsageError(f"{name!r} cannot name a domain", hint="use letters and digits, like cvd")
    return plain


def _tables(moeret: Moeret) -> Sequence[str]:
    try:
        live = moeret.store.catalog.latest()
    except NothingFoundError:
        return ()
    return tuple(live.domains) if live else ()


def _key(encoder: Encoder, pairs: TrainingPairs, domains: Sequence[str], options: TrainOptions) -> str:
    """What must be the same for a training to be gone on with: model, pairs, domains, options that decide."""
    digest = hashlib.sha256(encoder.fingerprint("general").encode())
    decides = replace(options, fit=replace(options.fit, device="", report_to=()))
    digest.update(json.dumps([list(domains), asdict(decides)], sort_keys=True, default=str).encode())
    for pair in (*pairs.train, *pairs.validation):
        digest.update(json.dumps(pair.to_dict(), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _data(path: str | Path, pairs: TrainingPairs) -> dict[str, Any]:
    place = Path(path)
    names = ("train.jsonl", "validation.jsonl")
    files = [place / name for name in names] if place.is_dir() else [place]
    return {
        "pairs": place.name,
        "sha256": ", ".join(file_sha256(file) for file in files),
        "training pairs": ", ".join(f"{name} {count}" for name, count in pairs.counts().items()),
        "validation pairs": len(pairs.validation),
    }


def _scratch(store: Path | str) -> Path:
    """Where trainings keep checkpoints: in the store's folder, or, without one, in the user's cache."""
    import platformdirs

    if isinstance(store, Path) and (store / "store.json").is_file():
        return store / "training"
    return platformdirs.user_cache_path("moeret") / "training"
