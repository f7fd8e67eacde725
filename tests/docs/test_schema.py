"""The JSON schema of config files accepts what a run accepts, and refuses what it can."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from msiscale.cli import cli
from msiscale.config import PROFILES, RunConfig, load_config
from msiscale.errors import InputError

CLI_PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.fixture(scope="module")
def checker() -> jsonschema.Draft202012Validator:
    done = CliRunner().invoke(cli, ["config-schema"])
    assert done.exit_code == 0
    schema = json.loads(done.output)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def example() -> str:
    """The file of the page."""
    (block,) = re.findall(r"\n\n((?:    \w+ = .*\n)+)", CLI_PAGE.read_text())
    return block.replace("\n    ", "\n").strip()


GOOD = [
    "",
    example(),
    "compile = true",
    'window = 1024\nprecision = "bfloat16"\njitter = [0, 0.5, 1]',
    "mpp = 1\nalphas = [0, 1]",
]


@pytest.mark.parametrize("text", GOOD)
def test_good_files_pass_both(
    checker: jsonschema.Draft202012Validator, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    load_config(str(path))
    checker.validate(tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "encoderr = 'resnet50'",
        "mpp = '0.5'",
        "mpp = true",
        "block = 1.5",
        "alphas = 0.1",
        "alphas = ['a']",
        "normalise = 'max'",
        "cancer_classes = [1]",
        "[run]\nmpp = 0.5",
    ],
)
def test_bad_files_pass_neither(
    checker: jsonschema.Draft202012Validator, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f"components = 10\n{text}")
    with pytest.raises(InputError, match=r"run\.toml:2: "):
        load_config(str(path))
    assert not checker.is_valid(tomllib.loads(text))


def test_every_option_is_in_it_with_its_default_and_its_help(
    checker: jsonschema.Draft202012Validator,
) -> None:
    options = checker.schema["properties"]
    fields = dataclasses.fields(RunConfig)
    assert list(options) == [f.name for f in fields]
    defaults = {k: v["default"] for k, v in options.items() if "default" in v}
    checker.validate(defaults)
    given = {f.name: getattr(RunConfig(), f.name) for f in fields if f.default is not None}
    assert defaults == json.loads(json.dumps(given))
    assert "ppm" in options["tolerance_ppm"]["description"]
    for choices in PROFILES.values():
        checker.validate(json.loads(json.dumps(choices)))
