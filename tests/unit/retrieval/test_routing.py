"""Fitting the store's router costs no encoding of texts that the last one was fitted on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Moeret, Store
from moe_retrieval.model import surgery
from moe_retrieval.retrieval.routing import fit_router, load_router
from moe_retrieval.settings import Settings
from moe_retrieval.storage.catalog import Generation
from moe_retrieval.types import Durability, Precision
from tests.tiny_model import different

DOMAINS = ("cvd", "skin")


@pytest.fixture(scope="module")
def written(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose two domains have experts of their own."""
    folder = tmp_path_factory.mktemp("routing")
    model = different(surgery.upcycle(tiny_model), *DOMAINS)
    moeret = opened(folder / "store", tiny_model)
    for domain in DOMAINS:
        moeret.register_expert(domain, folder / surgery.export_expert(model, domain, folder))
    moeret.index_documents([document(domain, at) for domain in DOMAINS for at in range(20)])
    return folder / "store"


@pytest.fixture
def moeret(written: Path, tiny_model: Path, tmp_path: Path) -> Moeret:
    return opened(Path(shutil.copytree(written, tmp_path / "store")), tiny_model)


def opened(store: Path, model: Path) -> Moeret:
    settings = Settings(model=str(model), precision=Precision.FP32, durability=Durability.PROCESS)
    return Moeret.open(store, settings=settings)


def document(domain: str, at: int) -> Document:
    return Document(f"{domain}{at}", f"{domain} heart skin patient {at} {'dose ' * (at % 5)}", domain=domain)


def live_of(store: Store) -> Generation:
    live = store.catalog.latest()
    assert live is not None
    return live


@pytest.fixture
def counted(moeret: Moeret, monkeypatch: pytest.MonkeyPatch) -> tuple[Encoder, list[str]]:
    """The store's encoder, and the texts that it is given."""
    encoder, encoded = moeret.encoder(), list[str]()
    encode = encoder.encode_document

    def counting(texts: list[str], **options: Any) -> object:
        encoded.extend(texts)
        return encode(texts, **options)

    monkeypatch.setattr(encoder, "encode_document", counting)
    return encoder, encoded


def test_what_the_last_router_was_fitted_on_is_not_encoded_again(
    moeret: Moeret, counted: tuple[Encoder, list[str]]
) -> None:
    encoder, encoded = counted
    live = live_of(moeret.store)
    fitted = fit_router(moeret.store, live.domains, encoder, live=live)
    assert encoded == []
    assert fitted is not None
    assert fitted.save(moeret.store.routers_dir) == live.router


def test_a_router_fitted_from_nothing_is_the_same(
    moeret: Moeret, counted: tuple[Encoder, list[str]], tmp_path: Path
) -> None:
    encoder, encoded = counted
    live = live_of(moeret.store)
    fitted = fit_router(moeret.store, live.domains, encoder)
    assert len(encoded) == 40
    assert fitted is not None
    assert fitted.save(tmp_path) == live.router


def test_only_new_texts_are_encoded(moeret: Moeret, monkeypatch: pytest.MonkeyPatch) -> None:
    under: list[tuple[str, int]] = []
    encode = Encoder.encode_document

    def counting(self: Encoder, texts: list[str], *, domain: str = "general") -> object:
        under.append((domain, len(texts)))
        return encode(self, texts, domain=domain)

    monkeypatch.setattr(Encoder, "encode_document", counting)
    moeret.index_documents([document("cvd", 77)])
    assert sorted(one for one in under if one[1]) == [("cvd", 1), ("general", 1)]


def test_vectors_of_another_space_are_not_taken_for_the_routers(moeret: Moeret, tiny_model: Path) -> None:
    live = live_of(moeret.store)
    router = load_router(moeret.store, live)
    assert router is not None
    assert router.space == moeret.encoder().fingerprint("general")
    other = Encoder.load(tiny_model, max_length=8)
    own = {domain: moeret.store.experts_dir / live.domains[domain].expert for domain in DOMAINS}
    shorter = Encoder.load(tiny_model, experts=own, max_length=8)
    fitted = fit_router(moeret.store, live.domains, shorter, live=live)
    assert fitted is not None
    assert fitted.space == other.fingerprint("general") != router.space
    assert fitted.marks.tolist() == router.marks.tolist()
    assert not np.allclose(fitted.exemplars, router.exemplars, atol=1e-3)
