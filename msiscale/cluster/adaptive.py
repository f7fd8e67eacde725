"""Adaptive scaling that leaves a pool of GPU workers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from distributed import Adaptive
from distributed.deploy.spec import SpecCluster


class PoolAdaptive(Adaptive):
    """Scales the workers of a cluster, but for those named in `fixed`.

    Jobs that ended (their time was up) are asked for again, those of the fixed pool too.

    Parameters
    ----------
    cluster
        The cluster to scale.
    fixed
        Worker names that stay; Dask would retire them when idle.
    job_of
        Worker name -> name of its job: the workers of a job go together.
    processes
        Workers a job.
    """

    def __init__(
        self,
        cluster: SpecCluster,
        *,
        fixed: Iterable[str] = (),
        job_of: Callable[[str], str] = str,
        processes: int = 1,
        **options: Any,
    ) -> None:
        self.fixed, self.job_of, self.processes = frozenset(fixed), job_of, processes
        super().__init__(cluster, **options)

    @property
    def plan(self) -> set[Any]:
        return set(self.cluster.plan) - self.fixed

    @property
    def requested(self) -> set[Any]:
        return set(self.cluster.requested) - self.fixed

    @property
    def observed(self) -> set[Any]:
        return set(self.cluster.observed) - self.fixed

    async def target(self) -> int:
        # the scheduler counts the work of all workers
        wanted: int = await super().target()  # type: ignore[no-untyped-call]
        return max(0, wanted - len(self.fixed))

    async def recommendations(self, target: int) -> dict[str, Any]:
        if self.fixed - set(self.cluster.requested):
            await self.cluster
        return await super().recommendations(target)

    async def scale_up(self, n: Any) -> None:
        more = n + len(self.fixed) * self.processes
        await super().scale_up(more)  # type: ignore[no-untyped-call]

    async def workers_to_close(self, target: int) -> list[str]:
        idle_first = [n for n in await super().workers_to_close(0) if n not in self.fixed]
        surplus = len(self.observed) - target
        jobs: dict[str, list[str]] = {}
        for name in idle_first:
            jobs.setdefault(self.job_of(name), []).append(name)
        closing: list[str] = []
        for names in jobs.values():
            if len(closing) + len(names) <= surplus:
                closing += names
        return closing
