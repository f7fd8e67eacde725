"""Rows kept between passes: bounded, first come first kept, never another array's."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.models import cache
from msiscale.models.cache import Cached, Kept


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(cache, "CACHE_BYTES", 3 * 800)
    monkeypatch.setattr(cache, "KEPT", Kept())


def scan(owner, reads, n=5):
    def read(i):
        reads.append(i)
        return np.full(100, float(i)), None

    return [Cached((owner, i), lambda i=i: read(i)) for i in range(n)]


def test_a_cyclic_scan_finds_what_came_first():
    reads = []
    blocks = scan("a", reads)
    for _ in range(3):
        assert [block()[0][0] for block in blocks] == [0, 1, 2, 3, 4]
    assert reads == [0, 1, 2, 3, 4, 3, 4, 3, 4]
    assert sum(rows[0].nbytes for rows in cache.KEPT.rows.values()) <= cache.CACHE_BYTES


def test_another_array_gets_the_room():
    for block in scan("a", []):
        block()
    reads = []
    blocks = scan("b", reads, 2)
    for block in blocks * 2:
        block()
    assert reads == [0, 1]
    assert {owner for owner, _ in cache.KEPT.rows} == {"b"}
