"""Settings: the strongest layer wins, a typo is an error, and every message names its origin."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from moe_retrieval.errors import SettingsError
from moe_retrieval.settings import Settings, config_files, load_settings, read_config
from moe_retrieval.types import Durability, Mode, Precision

STRONGEST_FIRST = ["flag", "environment", "moeret.toml", "pyproject.toml", "user file"]


class Layers:
    """An empty working folder and user folder, and ways to put settings into each layer."""

    def __init__(self, folder: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.user_file, self.monkeypatch = folder, user / "moeret" / "config.toml", monkeypatch
        self.flags: dict[str, object] = {}

    def put(self, layer: str, name: str, value: object) -> None:
        match layer:
            case "flag":
                self.flags[name] = value
            case "environment":
                self.monkeypatch.setenv(f"MOERET_{name.upper()}", str(value))
            case "moeret.toml":
                (self.folder / "moeret.toml").write_text(f"{name} = {value!r}\n", encoding="utf8")
            case "pyproject.toml":
                text = f"[project]\nname = 'x'\n[tool.moeret]\n{name} = {value!r}\n"
                (self.folder / "pyproject.toml").write_text(text, encoding="utf8")
            case "user file":
                self.user_file.parent.mkdir(parents=True, exist_ok=True)
                self.user_file.write_text(f"{name} = {value!r}\n", encoding="utf8")

    def origin(self, layer: str) -> str:
        """What a message calls a layer."""
        return str(self.user_file) if layer == "user file" else layer


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layers:
    folder, user = tmp_path / "work", tmp_path / "user"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user))
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MOERET_{name.upper()}", raising=False)
    return Layers(folder, user, monkeypatch)


@pytest.mark.usefixtures("layers")
def test_without_any_layer_every_setting_is_its_default() -> None:
    assert set(load_settings().origins.values()) == {"default"}


@pytest.mark.usefixtures("layers")
def test_every_setting_has_an_origin() -> None:
    assert load_settings().origins.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("place", range(len(STRONGEST_FIRST)))
def test_a_layer_wins_over_all_weaker_ones(layers: Layers, place: int) -> None:
    for number, layer in enumerate(STRONGEST_FIRST[place:], start=place):
        layers.put(layer, "k", 20 + number)
    assert load_settings(**layers.flags).values.k == 20 + place


@pytest.mark.parametrize("place", range(len(STRONGEST_FIRST)))
def test_the_origin_is_the_layer_that_won(layers: Layers, place: int) -> None:
    for layer in STRONGEST_FIRST[place:]:
        layers.put(layer, "k", 20)
    assert load_settings(**layers.flags).origins["k"] == layers.origin(STRONGEST_FIRST[place])


def test_layers_that_set_different_things_add_up(layers: Layers) -> None:
    for layer, name in zip(STRONGEST_FIRST, ["k", "budget", "chunk_tokens", "max_length"], strict=False):
        layers.put(layer, name, 99)
    values = load_settings(**layers.flags).values
    assert (values.k, values.budget, values.chunk_tokens, values.max_length) == (99, 99, 99, 99)


def test_a_flag_that_was_not_given_hides_nothing(layers: Layers) -> None:
    layers.put("moeret.toml", "k", 20)
    assert load_settings(k=None).values.k == 20


def test_a_flag_that_is_empty_was_given(layers: Layers) -> None:
    layers.put("moeret.toml", "query_prompt", "query: ")
    assert load_settings(query_prompt="").values.query_prompt == ""


@pytest.mark.parametrize("layer", STRONGEST_FIRST)
def test_a_typo_is_an_error_that_names_its_layer_and_the_nearest_setting(layers: Layers, layer: str) -> None:
    layers.put(layer, "chunk_token", 64)
    with pytest.raises(SettingsError) as caught:
        load_settings(**layers.flags)
    expected = f"{layers.origin(layer)}: no setting is called 'chunk_token'; did you mean 'chunk_tokens'?"
    assert str(caught.value) == expected


@pytest.mark.parametrize("layer", STRONGEST_FIRST)
def test_a_bad_value_is_an_error_that_names_its_layer(layers: Layers, layer: str) -> None:
    layers.put(layer, "k", 0)
    with pytest.raises(SettingsError) as caught:
        load_settings(**layers.flags)
    assert str(caught.value).startswith(f"{layers.origin(layer)}: k = ")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("k", "many", "a whole number from 1 to 10000"),
        ("k", 10_001, "a whole number from 1 to 10000"),
        ("max_length", -1, "a whole number from 0 to 8192"),
        ("mode", "speech", "one of hybrid, vector, text"),
        ("precision", "half", "one of auto, fp32, bf16, int8"),
        ("mass", 0.0, "a number above 0, at most 1"),
        ("recall", 1.5, "a number above 0, at most 1"),
        ("publish_seconds", 0, "a number above 0"),
        ("chunk_overlap", -1, "a whole number from 0"),
        ("budget", 0, "a whole number from 1"),
        ("durability", "perhaps", "one of power, process"),
        ("model", 3, "a text"),
        ("query_prompt", 3, "a text"),
        ("store", 3, "a folder"),
    ],
)
def test_a_bad_value_is_answered_with_what_is_allowed(
    layers: Layers, name: str, value: object, allowed: str
) -> None:
    layers.put("moeret.toml", name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.message == f"moeret.toml: {name} = {value!r} is refused"
    assert caught.value.hint == f"{name} is {allowed} ({Settings.model_fields[name].description})"


def test_a_store_in_a_bucket_is_named_by_its_url(layers: Layers) -> None:
    layers.put("environment", "store", "s3://bucket/prefix/")
    assert load_settings().values.store == "s3://bucket/prefix"
    layers.put("environment", "store", "gs://bucket/prefix")
    with pytest.raises(SettingsError, match="only s3:// is known"):
        load_settings()


def test_a_misspelt_choice_is_answered_with_the_nearest(layers: Layers) -> None:
    layers.put("environment", "mode", "Hybird")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.hint.startswith("did you mean 'hybrid'? mode is one of hybrid, vector, text")


@pytest.mark.parametrize("layer", STRONGEST_FIRST)
def test_a_choice_is_read_in_any_case(layers: Layers, layer: str) -> None:
    layers.put(layer, "mode", "Text")
    assert load_settings(**layers.flags).values.mode is Mode.TEXT


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("caf\udce9", "it is no valid UTF-8"),
        ("~nobody-of-this-name/store", "there is no such user"),
    ],
)
@pytest.mark.parametrize("layer", ["flag", "environment"])
def test_a_store_that_can_be_no_folder_is_refused(
    layers: Layers, layer: str, store: str, reason: str
) -> None:
    layers.put(layer, "store", store)
    with pytest.raises(SettingsError) as caught:
        load_settings(**layers.flags)
    assert caught.value.message == f"{layer}: store = {store!r} is refused: {reason}"


def test_the_home_folder_is_filled_in(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    layers.put("moeret.toml", "store", "~/store")
    assert load_settings().values.store == Path("/somewhere/store")


def test_the_switch_for_tracebacks_is_no_setting(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOERET_DEBUG", "1")
    assert set(load_settings(**layers.flags).origins.values()) == {"default"}


@pytest.mark.usefixtures("layers")
def test_prompts_are_what_the_store_records_unless_they_are_set() -> None:
    values = load_settings().values
    assert (values.query_prompt, values.document_prompt) == (None, None)


def test_an_empty_prompt_is_a_prompt(layers: Layers) -> None:
    layers.put("environment", "query_prompt", "")
    assert load_settings().values.query_prompt == ""


def test_a_bad_value_in_a_layer_that_loses_is_no_error(layers: Layers) -> None:
    layers.put("moeret.toml", "k", 0)
    assert load_settings(k=5).values.k == 5


def test_a_typo_in_a_layer_that_adds_nothing_is_still_an_error(layers: Layers) -> None:
    layers.put("user file", "kk", 5)
    with pytest.raises(SettingsError, match="no setting is called 'kk'"):
        load_settings(k=5)


def test_a_settings_error_ends_with_usage(layers: Layers) -> None:
    layers.put("environment", "k", "x")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("layer", STRONGEST_FIRST)
def test_words_become_typed_values_in_every_layer(layers: Layers, layer: str) -> None:
    layers.put(layer, "mode", "text")
    assert load_settings(**layers.flags).values.mode is Mode.TEXT


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("durability", "Process", Durability.PROCESS),
        ("store", "else/where", Path("else/where")),
        ("precision", "bf16", Precision.BF16),
        ("mass", "0.5", 0.5),
    ],
)
def test_a_variable_becomes_a_typed_value(layers: Layers, name: str, word: str, value: object) -> None:
    layers.put("environment", name, word)
    assert getattr(load_settings().values, name) == value


def test_a_variable_in_lower_case_has_its_origin_too(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    layers.put("moeret.toml", "k", 20)
    monkeypatch.setenv("moeret_k", "30")
    resolved = load_settings()
    assert (resolved.values.k, resolved.origins["k"]) == (30, "environment")


def test_variables_of_others_are_not_read(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOERETX_K", "30")
    monkeypatch.setenv("K", "30")
    assert load_settings().values.k == Settings.model_fields["k"].default


def test_a_pyproject_without_the_table_sets_nothing(layers: Layers) -> None:
    (layers.folder / "pyproject.toml").write_text("[tool.ruff]\nk = 1\n", encoding="utf8")
    assert load_settings().origins["k"] == "default"


@pytest.mark.parametrize("text", ["tool = 3\n", "[tool]\nmoeret = 3\n", "[[tool.moeret]]\nk = 3\n"])
def test_a_pyproject_whose_table_is_no_table_is_a_settings_error(layers: Layers, text: str) -> None:
    (layers.folder / "pyproject.toml").write_text(text, encoding="utf8")
    with pytest.raises(SettingsError, match=r"pyproject\.toml: \w+ is no table"):
        load_settings()


@pytest.mark.parametrize("data", [b"k = ", b"\xff", b"k = 1\nk = 2\n"])
def test_a_file_that_is_no_toml_is_a_settings_error_with_its_name(layers: Layers, data: bytes) -> None:
    (layers.folder / "moeret.toml").write_bytes(data)
    with pytest.raises(SettingsError, match=r"^moeret\.toml cannot be read: .*; it must be TOML in UTF-8$"):
        load_settings()


def test_a_missing_file_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_config(tmp_path / "moeret.toml")


def test_files_come_strongest_first_and_missing_ones_are_left_out(layers: Layers) -> None:
    layers.put("user file", "k", 1)
    layers.put("moeret.toml", "k", 1)
    assert config_files() == (Path("moeret.toml"), layers.user_file)


@pytest.mark.usefixtures("layers")
def test_settings_do_not_change() -> None:
    values = load_settings().values
    with pytest.raises(ValidationError):
        values.k = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_described(name: str) -> None:
    assert Settings.model_fields[name].description
