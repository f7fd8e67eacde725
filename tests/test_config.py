"""Options from a file and from the command line."""

from pathlib import Path

import pytest

from msiscale.config import RunConfig, load_config
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
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_config(str(path))
    assert all(w in str(error.value) for w in words)
