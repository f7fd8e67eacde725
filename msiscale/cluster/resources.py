"""Which workers offer a GPU."""

from __future__ import annotations

from distributed import Client, get_worker


def resources_of(client: Client) -> dict[str, dict[str, float]]:
    """Address of every worker that is there now -> the Dask resources that it offers."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {address: dict(facts.get("resources") or {}) for address, facts in workers.items()}


def has_gpu(client: Client) -> bool:
    """Whether a worker that is there now offers ``GPU``."""
    return any(offers_gpu(r) for r in resources_of(client).values())


def cpu_workers(client: Client) -> list[str]:
    """Addresses of the workers without a GPU; none where no worker, or every one, has one."""
    offered = resources_of(client)
    without = [address for address, r in offered.items() if not offers_gpu(r)]
    return without if len(without) < len(offered) else []


def task_device() -> str:
    """``cuda`` inside a task whose worker offers ``GPU``, else ``cpu``."""
    try:
        worker = get_worker()
    except ValueError:  # not in a task
        return "cpu"
    return "cuda" if offers_gpu(worker.state.total_resources) else "cpu"


def offers_gpu(resources: dict[str, float]) -> bool:
    """Whether a worker's resources have a GPU among them."""
    return resources.get("GPU", 0) > 0
