"""Start the workers of a cluster on one machine, and start them again when one dies.

    python -m tfbnn.launch --workers 2 -- python -m trainers.classification --resume state

Each worker is the command with its own `TF_CONFIG`, from which the strategy `"multi_worker"` is
made. The collective operations of TensorFlow cannot go on without a worker, so when one ends with
an error or is killed, the others are stopped and all are started again (not after exit code 2, by
which programs say that their options were wrong); a program that has the callback
`ResumeTraining` goes on at the batch where it was. Lines are printed with the number of the worker
that wrote them.

It is for several processes on one machine. On several machines a scheduler does the same: see
`docs/distribution.md`.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0
# How a program ends, by convention, that was given options it does not know: it would again.
_WRONG_USE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in every worker until all end well.

    Returns:
        0, or the exit code of the first worker that failed in the last attempt: as in a shell,
        128 + n after signal n. `SystemExit` has code 127 if there is no such command, and 126 if it
        cannot be run.
    """
    settings = _settings(argv)
    # What schedulers send: as an exception it reaches the workers, which would live on else.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return _attempts(settings)
    except KeyboardInterrupt:
        print("launch: interrupted, so all workers were stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def _attempts(settings: argparse.Namespace) -> int:
    for attempt in range(settings.restarts + 1):
        if attempt:
            _say(f"starting all workers again ({attempt} of {settings.restarts})")
        code = _attempt(settings.command, settings.workers)
        if code in (0, _WRONG_USE):
            break
    return code


def _settings(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tfbnn.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=2, help="number of processes (default: 2)")
    parser.add_argument(
        "--restarts", type=int, default=3, help="how often to start again (default: 3)"
    )
    parser.add_argument("command", nargs="+", help="what each worker runs, after --")
    settings = parser.parse_args(argv)
    if settings.workers < 1 or settings.restarts < 0:
        parser.error(
            "there must be at least 1 worker and no negative number of restarts. Received: "
            f"--workers {settings.workers} --restarts {settings.restarts}"
        )
    return settings


def _attempt(command: list[str], workers: int) -> int:
    """Run all workers once; the exit code of the first that failed, or 0."""
    ports = _free_ports(workers)
    processes, printers = [], []
    try:
        for index in range(workers):
            processes.append(_start(command, ports, index))
            printers.append(_print_lines(processes[-1], index))
        failed = _first_failure(processes)
    finally:
        with _uninterrupted():
            _stop(processes)
        for printer in printers:
            printer.join(_GRACE_SECONDS)
    if failed is None:
        return 0
    code = processes[failed].returncode
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    _say(f"worker {failed} ended ({how}), so all were stopped")
    return 128 - code if code < 0 else code


def _say(line: str) -> None:
    # At once: the workers' own lines, of which it is one, are printed so.
    print(f"launch: {line}", flush=True)


def _start(command: list[str], ports: list[int], index: int) -> subprocess.Popen:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
    try:
        return subprocess.Popen(
            command,
            env={**os.environ, "TF_CONFIG": json.dumps(config)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A group of its own, so that its children are stopped with it.
            start_new_session=True,
        )
    except OSError as error:
        print(
            f"launch: cannot run the command ({error.strerror}), so all workers were stopped. Give "
            f"after -- a program that can be found, as in a shell. Received: {shlex.join(command)}",
            file=sys.stderr,
        )
        # An end, and no failure: it would be missing in the next attempt too.
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def _first_failure(processes: list[subprocess.Popen]) -> int | None:
    """The index of the first process that ends badly, or None when all have ended well."""
    while True:
        codes = [process.poll() for process in processes]
        for index, code in enumerate(codes):
            if code:
                return index
        if all(code == 0 for code in codes):
            return None
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Whoever presses ctrl-C twice must not leave workers behind."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _stop(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    end = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen, number: int) -> None:
    # The group may live on when the process that leads it has ended, and may be gone already.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _print_lines(process: subprocess.Popen, index: int) -> threading.Thread:
    def print_lines() -> None:
        with process.stdout:
            for line in process.stdout:
                print(f"[{index}] {line}", end="", flush=True)

    thread = threading.Thread(target=print_lines, daemon=True)
    thread.start()
    return thread


def _free_ports(count: int) -> list[int]:
    # All are held until all are known, so that they differ.
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


if __name__ == "__main__":
    sys.exit(main())
