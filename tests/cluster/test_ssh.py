"""Hosts reached by SSH: a real SSH server on loopback, in this process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from msiscale.cluster import (
    WORKER_ENVIRONMENT,
    Where,
    connect,
    cpu_workers,
    resources_of,
    task_device,
)
from msiscale.cluster.settings import settings_of
from msiscale.cluster.ssh import ssh_specs
from msiscale.errors import InputError

COMMANDS: list[str] = []


async def serve_command(process: asyncssh.SSHServerProcess) -> None:
    """Run what the client asks for, in a shell; end it with the connection, as sshd does."""
    COMMANDS.append(str(process.command))
    child = subprocess.Popen(
        process.command,
        shell=True,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        await process.redirect(child.stdin, child.stdout, child.stderr)
        while child.poll() is None and not process.channel.is_closing():
            await asyncio.sleep(0.05)
        process.exit(child.poll() or 0)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
        child.wait(timeout=30)


@pytest.fixture
def ssh_port(tmp_path: Path) -> Iterator[int]:
    """Port of a server that lets one key in: ``key`` in `tmp_path`, beside ``known_hosts``."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(tmp_path / "key"))
    key.write_public_key(str(tmp_path / "key.pub"))
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            authorized_client_keys=str(tmp_path / "key.pub"),
            process_factory=serve_command,
        )

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)
    port = server.get_port()
    public = host_key.export_public_key().decode().strip()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
    yield port

    async def stop() -> None:
        server.close()
        await server.wait_closed()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(stop(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


# asyncssh's, when a client of its server goes
@pytest.mark.filterwarnings("ignore:coroutine 'Event.wait'")
def test_hosts_from_beginning_to_end(tmp_path, ssh_port, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    COMMANDS.clear()
    file = tmp_path / "hosts.toml"
    file.write_text(
        f"""
        kind = "ssh"
        workers = 1
        [options]
        hosts = ["127.0.0.1", "127.0.0.1"]
        scheduler_options = {{host = "127.0.0.1"}}
        [options.connect_options]
        port = {ssh_port}
        username = "someone"
        client_keys = ["{tmp_path / "key"}"]
        known_hosts = "{tmp_path / "known_hosts"}"
        [gpu]
        hosts = ["127.0.0.1"]
        workers = 1
        """
    )

    def look() -> dict[str, str | None]:
        return {
            name: os.environ.get(name) for name in [*WORKER_ENVIRONMENT, "CUDA_VISIBLE_DEVICES"]
        }

    with connect(cluster_config=str(file)) as client:
        client.wait_for_workers(2, timeout=60)
        [cpu] = cpu_workers(client)
        [gpu] = set(resources_of(client)) - {cpu}
        assert client.submit(task_device, resources={"GPU": 1}).result() == "cuda"
        assert client.run(look) == {
            cpu: {**WORKER_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""},
            gpu: {**WORKER_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": "0"},
        }
        assert set(client.nthreads().values()) == {1}
        spill = client.run(lambda dask_worker: dask_worker.memory_manager.memory_spill_fraction)
        assert set(spill.values()) == {False}

        # the certificates of the run, by files that the user alone may read
        assert {a.partition("://")[0] for a in (client.scheduler.address, cpu, gpu)} == {"tls"}
        folders = list((home / ".msiscale").iterdir())
        assert len(folders) == 3  # the hosts of this test share a home
        for path in (*folders, *(f for folder in folders for f in folder.iterdir())):
            assert path.stat().st_mode & 0o077 == 0
        http = client.run(lambda dask_worker: dask_worker.http_server.address)
        assert set(http.values()) == {"127.0.0.1"}
    key = re.compile("PRIVATE|BEGIN")
    assert COMMANDS and not any(key.search(command) for command in COMMANDS)
    assert list((home / ".msiscale").iterdir()) == []


def test_what_starts_where(tmp_path):
    file = tmp_path / "hosts.toml"
    file.write_text(
        """
        kind = "ssh"
        workers = 8
        [options]
        hosts = ["head", "a", "b"]
        connect_options = {password = "hunter2-secret"}
        worker_options = {memory_limit = "4 GiB", nthreads = 4}
        [gpu]
        hosts = ["g"]
        workers = 2
        """
    )
    settings = settings_of(Where(cluster_config=str(file), dashboard="127.0.0.1:8787"))
    scheduler, workers = ssh_specs(settings, None)
    assert scheduler["options"]["address"] == "head"
    assert scheduler["options"]["kwargs"] == {"dashboard_address": "127.0.0.1:8787"}
    assert sorted(workers) == ["a-0", "b-1", "g-gpu-0", "g-gpu-1"]
    cpu, gpu = workers["a-0"]["options"]["kwargs"], workers["g-gpu-1"]["options"]["kwargs"]
    assert (cpu["n_workers"], cpu["nthreads"], cpu["memory_limit"]) == (8, 1, "4 GiB")
    assert (gpu["n_workers"], gpu["nthreads"]) == (1, 1)
    assert gpu["resources"] == {"GPU": 1}
    assert (cpu["env"], gpu["env"]) == ({"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "1"})
    assert "hunter2" not in repr(settings)


def test_a_host_that_does_not_answer(tmp_path):
    file = tmp_path / "hosts.toml"
    file.write_text(
        """
        kind = "ssh"
        workers = 1
        [options]
        hosts = ["127.0.0.1", "127.0.0.1"]
        connect_options = {port = 9, password = "hunter2-secret"}
        """
    )
    with pytest.raises(InputError) as error, connect(cluster_config=str(file)):
        pass
    assert "the cluster could not be started" in str(error.value)
    assert "Connect" in str(error.value)
    assert "hunter2" not in str(error.value)
