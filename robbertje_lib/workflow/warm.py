"""One warm process from which a run's kernels fork: what takes every stage seconds to import is imported once.

    python -m robbertje_lib.workflow.warm FOLDER ARGUMENTS...    a kernel, as whoever starts and ends it sees it

A fork copies no thread, so the warm process never has more than its own: it imports, and forks. It hands each caller
to a keeper, a child of its own, which has the kernel for a child and ends with it. Whichever of caller, keeper and warm
process is killed, the kernel goes with it. Elsewhere than on Linux every kernel imports for itself.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

import psutil

from robbertje_lib.workflow.processes import KERNEL_ENVIRONMENT, die_with_parent, note_kernel, project_environment

WARM = "ROBBERTJE_WARM"  # names the folder of the socket, in the environment of what runs stages
SERVE = "--serve"
BEGUN = b"+"
WARM_MODULE = "robbertje_lib.workflow.warm"
# What models and tokenizers bring along. No pandas, nor anything else with pyarrow: it starts a thread.
PRELOADED = (
    "torch", "accelerate", "transformers.models.roberta.modeling_roberta", "transformers.models.auto.modeling_auto",
    "ipykernel.kernelapp",
)  # fmt: skip


@contextlib.contextmanager
def warm_process(log: IO[str], needed: bool = True) -> Iterator[dict[str, str]]:
    """Start one, if it is needed, that lasts as long as the block; yields what tells stages of it in their environment.

    log: a file that takes what it prints.
    """
    if sys.platform != "linux" or not needed:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="robbertje-") as folder, socket.socket(socket.AF_UNIX) as listener:
        # Bound here, so that whoever asks before it is ready waits.
        listener.bind(f"{folder}/warm")
        listener.listen()
        # Threads of numpy's BLAS would not survive a fork. How many torch takes, each kernel says.
        environment = project_environment(**KERNEL_ENVIRONMENT, OPENBLAS_NUM_THREADS="1")
        process = subprocess.Popen(
            [sys.executable, "-m", WARM_MODULE, SERVE, str(os.getpid()), str(listener.fileno())], env=environment,
            pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        listener.close()
        try:
            yield {WARM: folder}
        finally:
            process.terminate()
            process.wait()


def serve(parent: int, listener: socket.socket) -> None:
    """Fork a keeper for whoever asks, for ever; import when the first one does, as some runs have none."""
    die_with_parent(parent)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    this = os.getpid()
    while True:
        caller, _ = listener.accept()
        for module in PRELOADED:
            importlib.import_module(module)
        gc.freeze()
        if (threads := psutil.Process().num_threads()) != 1:
            sys.exit(f"no kernel can fork from a process with {threads} threads; each imports for itself")
        if os.fork() == 0:
            listener.close()
            die_with_parent(this)
            _keep(caller)
        caller.close()


def _keep(caller: socket.socket) -> NoReturn:
    """Fork the kernel that `caller` asks for, end it when the caller is gone, and tell the caller how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(caller, 1, 3)
    with caller.makefile() as lines:
        asked = json.loads(lines.readline())
    this = os.getpid()
    kernel = os.fork()
    if kernel == 0:
        caller.close()
        _become_kernel(this, streams, **asked)
    caller.sendall(BEGUN)
    ended = os.pidfd_open(kernel)
    ready, _, _ = select.select([caller.fileno(), ended], [], [])
    if ended not in ready:  # nothing more is asked: the caller is gone
        os.kill(kernel, signal.SIGKILL)
    _, status = os.waitpid(kernel, 0)
    with contextlib.suppress(OSError):
        caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become_kernel(
    keeper: int, streams: list[int], environment: dict[str, str], folder: str, arguments: list[str]
) -> NoReturn:
    die_with_parent(keeper)
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    import torch  # here it costs nothing
    from ipykernel.kernelapp import launch_new_instance

    # OMP_NUM_THREADS was read when torch was imported.
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    torch.seed()  # the warm process would have all kernels draw alike where nobody gives a seed
    note_kernel(arguments[1])
    launch_new_instance([*arguments, f"--IPKernelApp.parent_handle={keeper}"])
    sys.exit()


def follow(folder: str, arguments: list[str]) -> int:
    """Have a kernel forked, with this process's environment, folder and streams; returns how it ended.

    Where there is nothing to fork from (any more), this process becomes the kernel.
    """
    die_with_parent(int(os.environ["JPY_PARENT_PID"]))
    asked = {"environment": dict(os.environ), "folder": str(Path.cwd()), "arguments": arguments}
    with socket.socket(socket.AF_UNIX) as kernel:
        begun = False
        with contextlib.suppress(OSError):
            kernel.connect(f"{folder}/warm")
            socket.send_fds(kernel, [b"\n"], [0, 1, 2])
            kernel.sendall(json.dumps(asked).encode() + b"\n")
            begun = kernel.recv(1) == BEGUN
        if begun:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # jupyter_client sends one before it asks a kernel to end
            return abs(int(kernel.recv(16) or b"1"))
    from ipykernel.kernelapp import launch_new_instance  # not above: a second for a process that only waits

    note_kernel(arguments[1])
    launch_new_instance(arguments)
    return 0


if __name__ == "__main__":
    if sys.argv[1] == SERVE:
        serve(int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3])))
    sys.exit(follow(sys.argv[1], sys.argv[2:]))
