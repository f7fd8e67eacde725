"""A cohort run end to end from s3:// to s3:// is the local run, bit for bit."""

from __future__ import annotations

import os
from pathlib import Path

import obstore
from commands import installed
from obstore.store import LocalStore

from benchmarks.faults.compare import compare, snapshot
from benchmarks.faults.matrix import Undisturbed
from benchmarks.faults.stand import BUCKET, CHOICES, STAGES, Stand


def test_from_s3_to_s3_equals_the_local_run(
    place: Stand, reference: Undisturbed, tmp_path: Path
) -> None:
    local = place.folder / "cohort" / "manifest.csv"
    words = ["run", local, "--out", tmp_path / "run", "--scheduler", place.cluster.address]
    said = installed(*words, *CHOICES)
    assert said.code == 0, said.err
    found = snapshot(LocalStore(tmp_path / "run"))
    assert {"metrics.csv", "biomarkers.csv", "registration.csv", "report.html"} <= found.keys()
    assert sum("/c/" in name for name in found) > 50
    difference = compare(found, reference.contents)
    assert not difference, difference
    assert list(reference.stage_s) == list(STAGES)


def test_no_credential_is_left_anywhere(place: Stand, reference: Undisturbed) -> None:
    assert place.s3 is not None
    secret, seen = place.s3.secret.encode(), 0
    store = place.s3.store(BUCKET, prefix="undisturbed")
    for batch in obstore.list(store):
        for meta in batch:
            if meta["path"].endswith((".json", ".csv", ".html")):
                assert secret not in bytes(obstore.get(store, meta["path"]).bytes()), meta["path"]
                seen += 1
    assert seen > 50
    logs = [p for p in place.folder.rglob("*.log") if p.is_file()]
    assert logs and not [p for p in logs if secret in p.read_bytes()]


def test_the_command_says_in_one_line_that_a_key_is_wrong(place: Stand) -> None:
    env = {**place.env, "AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    before = dict(os.environ)
    os.environ.update(env)
    try:
        said = installed("run", place.manifest, "--out", f"s3://{BUCKET}/refused", *CHOICES)
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert said.code == 1
    assert len(said.err.splitlines()) == 1 and place.manifest in said.err
    assert "not-the-secret" not in said.err
