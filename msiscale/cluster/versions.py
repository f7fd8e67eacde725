"""Workers of a scheduler that was there before, compared with this program."""

from __future__ import annotations

from typing import Any

from distributed import Client

from msiscale.errors import InputError


def check_versions(client: Client) -> None:
    """Refuse a scheduler or workers that have another msiscale or Python, or none."""
    # the scheduler too reads the tasks; workers that join later are not seen
    scheduler: Any = client.scheduler
    found: Any = client.get_versions(packages=["msiscale"])
    own = _of(found["client"])
    others = {f"worker {name}": facts for name, facts in found["workers"].items()}
    others["the scheduler"] = found["scheduler"]
    unlike = {name: _of(facts) for name, facts in others.items() if _of(facts) != own}
    if unlike:
        named = "; ".join(f"{name} has {has}" for name, has in sorted(unlike.items())[:3])
        more = f"; and {len(unlike) - 3} more" if len(unlike) > 3 else ""
        raise InputError(f"{scheduler.address}: {named}{more}; install there what runs here: {own}")


def _of(facts: dict[str, Any]) -> str:
    packages = facts["packages"]
    python = ".".join(packages["python"].split(".")[:2])
    return f"msiscale {packages.get('msiscale') or 'missing'} on Python {python}"
