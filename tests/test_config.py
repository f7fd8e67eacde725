"""Options from a file and from the command line."""

from pathlib import Path

import pytest

from msiscale.config import SWITCHES, RunConfig, follows_study, load_config
from msiscale.errors import InputError


def test_words_on_the_command_line_win(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('mpp = 1\nnormalise = "rms"\nalphas = [0.1, 1.0]\n')
    config = load_config(str(path), mpp=2.0, encoder=None)
    assert (config.mpp, config.normalise, config.alphas) == (2.0, "rms", (0.1, 1.0))
    assert config.encoder == RunConfig().encoder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tolerance = 5", ["tolerance", "tolerance_ppm"]),
        ('normalise = "max"', ["normalise", "rms"]),
        ("mpp = -1", ["mpp", "positive"]),
        ("block = 1.5", ["block", "int"]),
        ("window = 100", ["window", "64"]),
        ("mpp = ", ["c.toml", "TOML"]),
        ("\nalphas = []", ["c.toml:2", "alphas", "one or more"]),
        ('protocols = ["folds"]', ["c.toml:1", "protocols", "pixel_folds"]),
        ("shifts = 50", ["shifts", "100 or more"]),
        ('normalise = "reference"', ["c.toml:1", "reference_mz"]),
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_config(str(path))
    assert all(w in str(error.value) for w in words)


def test_a_bad_word_on_the_command_line_is_not_the_files(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("mpp = 1\n")
    with pytest.raises(InputError, match=r"^option mpp = -1\.0: give a positive number$"):
        load_config(str(path), mpp=-1.0)


def test_the_published_profile_takes_every_choice_of_the_study() -> None:
    config = load_config(profile="published")
    assert (config.pca, config.costs, config.labels, config.scaler) == (
        "quarter",
        (1.0,),
        "hard",
        "standard",
    )
    assert (config.tissue, config.average, config.scaling) == ("all", "folds", "own")
    assert follows_study(config)
    assert not follows_study(load_config(profile="published", normalise="tic"))
    assert not follows_study(RunConfig())
    pcas = {change["pca"] for change in SWITCHES.values() if "pca" in change}
    assert pcas == {"all", "incremental", "quarter"}
