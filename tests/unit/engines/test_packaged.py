"""Bundled experts: found by name where the package has them, else a folder is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_retrieval.engines.packaged import bundled_experts, expert_folders, find_expert
from moe_retrieval.errors import UsageError
from moe_retrieval.model.packs import open_pack
from moe_retrieval.model.surgery import export_expert, upcycle
from tests.tiny_model import different


@pytest.fixture(scope="module")
def package(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the package has it, with two experts, and things that are none."""
    folder = tmp_path_factory.mktemp("experts")
    model = different(upcycle(tiny_model), "oncology", "metabolic")
    for name in ("oncology", "metabolic"):
        export_expert(model, name, folder / name)
    (folder / "empty").mkdir()
    (folder / "oncology" / "notes").mkdir()
    (folder / "README.md").write_text("what these are", "utf-8")
    return folder


def test_bundled_experts_are_known_by_name(package: Path) -> None:
    found = bundled_experts(package)
    assert sorted(found) == ["metabolic", "oncology"]
    assert {name: open_pack(folder).card.expert for name, folder in found.items()} == {
        name: name for name in found
    }


def test_a_package_without_experts_bundles_none(tmp_path: Path) -> None:
    assert bundled_experts(tmp_path / "experts") == {}


def test_a_name_means_the_bundled_expert_even_beside_a_folder_of_that_name(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "oncology").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_expert("oncology", folder=package) == bundled_experts(package)["oncology"]
    assert find_expert("./oncology", folder=package) == Path("oncology")


def test_a_folder_is_taken_as_it_is(package: Path, tmp_path: Path) -> None:
    assert find_expert(str(tmp_path), folder=package) == tmp_path


def test_a_misspelt_name_gets_the_nearest_one(package: Path) -> None:
    with pytest.raises(
        UsageError, match="'oncolgy' is no bundled expert and no folder; did you mean 'oncology'"
    ):
        find_expert("oncolgy", folder=package)


@pytest.mark.parametrize("name", ["oncology", ""])
def test_where_none_is_bundled_a_folder_is_asked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="none is bundled: give the folder"):
        find_expert(name, folder=tmp_path)


def test_words_name_experts_for_domains(package: Path, tmp_path: Path) -> None:
    every = bundled_experts(package)
    assert expert_folders(["bundled"], folder=package) == every
    found = expert_folders(["cvd=oncology", f"Skin Cancer={tmp_path}"], folder=package)
    assert found == {"cvd": every["oncology"], "skin-cancer": tmp_path}


@pytest.mark.parametrize("word", ["oncology", "=oncology", "cvd=", "!!=oncology", ""])
def test_a_word_that_names_no_domain_or_no_expert_is_refused(package: Path, word: str) -> None:
    with pytest.raises(UsageError, match="names no domain and expert"):
        expert_folders([word], folder=package)
