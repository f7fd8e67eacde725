"""What every page has: its style, its scripts, and a policy that lets no others run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def framed(
    title: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    *,
    package: str = "report",
    library: str = "",
    digest: str = "",
) -> dict[str, Any]:
    """The words of ``base.html.j2``.

    Parameters
    ----------
    title
        Of the page.
    styles, scripts
        Names of files, in their order; of the package, or of the report's.
    package
        Of `msiscale`, where they are looked for first.
    library, digest
        A packed script that one of `scripts` starts, and the digest of it unpacked.

    Returns
    -------
    dict
        Title, style, theme, scripts, library, policy.
    """
    texts = [own(name, package) for name in scripts]
    theme = own("theme.js") if texts and package == "report" else ""  # others are light
    digests = [*filter(None, [digest]), *map(script_digest, [*filter(None, [theme]), *texts])]
    allowed = " ".join(f"'{d}'" for d in digests) or "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return {
        "title": title,
        "style": "\n".join(own(name, package) for name in styles),
        "theme": theme,
        "light": package != "report",
        "library": library,
        "scripts": texts,
        "policy": f"{policy}; base-uri 'none'; form-action 'none'",
    }


def own(name: str, package: str = "report") -> str:
    """The text of a script or style of a package, or of the report's."""
    found = files(f"msiscale.{package}").joinpath(name)
    if not found.is_file():
        found = files("msiscale.report").joinpath(name)
    text = found.read_text(encoding="utf-8")
    assert "</script" not in text
    return text


def script_digest(script: str) -> str:
    """How a policy names a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


# Jinja compiles a template once an environment
@cache
def templates(package: str) -> Environment:
    """The templates of a package, and those of the report."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader("msiscale", p) for p in (package, "report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Bokeh defines a model where it is first met: the order of the keys has a meaning
    made.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    return made


def plain_page(template: str, title: str, **words: Any) -> str:
    """A page of a template of the report's, without scripts; what is from outside is escaped."""
    frame = framed(title, ["report.css"], [])
    return templates("report").get_template(template).render(**frame, **words)
