"""Kill a training run again and again, and let it go on: `python -m tests.long.kill_and_resume PROFILE STUDENT KILLS`.

Each attempt is a fork of this process, killed with SIGKILL a random while after its first new checkpoint. The
last attempt runs to its end. Prints the update at which each kill struck.
"""

import os
import signal
import sys
import time

import numpy as np
import torch

from robbertje_lib.distillation.student import distil
from robbertje_lib.experiment.run import Run, open_run


def attempt(run: Run, student: str) -> int:
    """Start the run in a child process and return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            distil(run, student, checkpoint_seconds=0.0)  # a checkpoint after every update
        finally:
            os._exit(0 if run.paths.model(student).exists() else 1)
    return pid


def kill_at_random(run: Run, student: str, kills: int, seed: int) -> int:
    """Kill up to `kills` attempts, then finish; returns how many were killed before they ended by themselves."""
    generator, struck, folder = np.random.default_rng(seed), 0, run.paths.checkpoints(student)
    for _ in range(kills):
        before = {path.name for path in folder.glob("update-*")}
        pid = attempt(run, student)
        while {path.name for path in folder.glob("update-*")} <= before and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.05))
        saved = sorted(path.name for path in folder.glob("update-*"))
        if run.paths.model(student).exists():
            break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        struck += 1
        print(f"killed after {saved[-1] if saved else 'the end'}", flush=True)
    if not run.paths.model(student).exists():
        _, status = os.waitpid(attempt(run, student), 0)
        if status:
            sys.exit("the last attempt failed")
    return struck


if __name__ == "__main__":
    torch.set_num_threads(1)  # a fork takes no other thread along
    print("kills:", kill_at_random(open_run(sys.argv[1]), sys.argv[2], int(sys.argv[3]), seed=0))
