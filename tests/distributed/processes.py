"""Start processes that play scenarios together, and bring back what each of them found."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEADLINE = 240
SCENARIOS = Path(__file__).with_name("scenarios.py")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def play(size, scenarios, folder, survivors=None, script=SCENARIOS, **environment):
    """Let `size` processes play; dict of scenario to tuple of what the ranks returned, None where one did not live on.

    Where some do not survive, `survivors` are the ranks that do.
    """
    port, started = free_port(), []
    for rank in range(size):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        own |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": ROOT, **environment}
        command = [sys.executable, script, scenarios, folder]
        log = open(Path(folder) / f"log{rank}", "w")
        env = os.environ | {name: str(value) for name, value in own.items()}
        started.append(subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=subprocess.STDOUT))
    try:
        for rank in range(size) if survivors is None else survivors:
            code = started[rank].wait(DEADLINE)
            assert code == 0, (Path(folder) / f"log{rank}").read_text()[-4000:]
    finally:
        for process in started:
            process.kill()
            process.wait()
    files = [Path(folder) / f"found{rank}" for rank in range(size)]
    found = [pickle.loads(file.read_bytes()) if file.exists() else {} for file in files]
    names = dict.fromkeys(name for part in found for name in part)
    return {name: tuple(part.get(name) for part in found) for name in names}
