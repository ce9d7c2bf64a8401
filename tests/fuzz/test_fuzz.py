"""A small share of the long run in every run of the tests: the same seeds each time.

`TFBNN_FUZZ_SEED=17 pytest tests/fuzz` tries other seeds: those from 17 on. The long run is
`python -m tests.fuzz`, see docs/reliability.md.
"""

import json
import os
import pathlib
import time

import numpy as np
import pytest

from tests.fuzz import __main__ as command
from tests.fuzz import damage, laws, workers
from tests.fuzz.kinds import CRASHED, FAILURES, HUNG, KINDS, PASSED, Result
from tests.fuzz.log import Log
from tests.fuzz.running import Run

FIRST = int(os.environ.get("TFBNN_FUZZ_SEED", 0))
# What fits into a minute, all together: two networks, four turns of files, two arguments (others
# are in test_arguments.py), two exports over others.
CASES = {
    "networks": range(2),
    "files": range(4 * len(KINDS["files"].parts)),
    "arguments": range(2),
    "kills": (1, 4),
}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return Log(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", CASES)
def test_no_case_fails(kind, log):
    run = Run(log, [kind], FIRST, report=lambda *case: None)
    run.these([(kind, FIRST + seed) for seed in CASES[kind]], jobs=1)
    failed = [
        f"python -m tests.fuzz --replay {kind} {seed}\n{log.cases[kind, seed]['detail']}"
        for kind, seed in log.failures([kind])
    ]
    assert not failed, "\n\n".join(failed)
    assert len([1 for other, _ in log.cases if other == kind]) == len(CASES[kind])


def test_a_run_that_was_killed_goes_on_after_its_last_case(tmp_path):
    log = Log(tmp_path)
    for seed in (0, 1, 2):
        log.add("networks", seed, Result(PASSED, counts={"fit": 1}), 1.0)
    # Killed in the middle of a line.
    log.path.write_bytes(log.path.read_bytes()[:-20])
    log = Log(tmp_path)
    assert sorted(log.cases) == [("networks", 0), ("networks", 1)]
    assert next(Run(log, ["networks"], 0, print)._seeds["networks"]) == 2
    log.add("networks", 2, Result("failed", detail="x"), 1.0)
    lines = log.path.read_text().splitlines()
    assert [json.loads(line)["seed"] for line in (*lines[:2], lines[-1])] == [0, 1, 2]
    assert Log(tmp_path).failures(["networks"]) == [("networks", 2)]


def test_the_table_counts_the_last_result_of_each_seed(tmp_path):
    log = Log(tmp_path)
    log.add("files", 0, Result("failed", "keras"), 1.0)
    log.add("files", 0, Result("refused", "keras"), 1.0)
    log.add("files", 1, Result("passed", "state"), 1.0)
    log.add("files", 3, Result("crashed", "keras"), 1.0)
    lines = Log(tmp_path).table().splitlines()
    assert "| files | all | 3 | 1 | 1 | 0 | 0 | 0 | 1 | 0 | 0-1, 3 |" in lines
    assert "| files | keras | 2 | 0 | 1 | 0 | 0 | 0 | 1 | 0 |  |" in lines


def test_the_command_says_what_it_takes(capsys, tmp_path):
    assert command.main(["--table", "--log", str(tmp_path)]) == 0
    assert "| kind | part | cases |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main(["--log", str(tmp_path)])
    assert "--minutes N" in capsys.readouterr().err


@pytest.mark.parametrize(("seed", "outcome"), [(-1, CRASHED), (-2, HUNG)], ids=["crash", "hang"])
def test_a_case_that_ends_its_process_is_a_failure_of_that_case(seed, outcome, tmp_path):
    worker = workers.Worker("networks", tmp_path / "worker", tmp_path, _crash_or_hang, seconds=3)
    result, _ = worker.run(seed)
    assert result.outcome == outcome
    assert outcome in FAILURES
    # The next case has a new process.
    assert worker.run(0)[0].outcome == PASSED
    worker.stop()


def _crash_or_hang(connection, kind, folder, prepared):
    del kind, prepared
    pathlib.Path(folder, "printed.txt").write_text("what was printed")
    while (task := connection.recv()) is not None:
        if task == -1:
            os.abort()
        if task == -2:
            time.sleep(600)
        if task == 0:
            connection.send(Result(PASSED))


def test_damage_is_a_function_of_the_seed():
    for seed in range(50):
        made = [damage.damaged(np.random.default_rng(seed), bytes(999), [b"x"]) for _ in range(2)]
        assert made[0] == made[1]


def test_our_divergences_are_those_of_closed_forms():
    loc, scale = np.array([0.3, -1.0]), np.array([0.2, 1.5])
    prior = laws.priors.Normal(0.1, 0.7)
    exact = np.log(0.7 / scale) + (scale**2 + (loc - 0.1) ** 2) / (2 * 0.7**2) - 0.5
    assert laws.expected_kl(loc, scale, prior) == pytest.approx(exact.sum(), rel=1e-6)
    # The first weight is within the smallest scale, the second is not.
    prior = laws.priors.AutomaticRelevance(0.7, 100.0)
    exact = np.log(0.7 / 0.2) + (0.2**2 + 0.3**2) / (2 * 0.7**2) - 0.5 + np.log1p(1 / 1.5**2) / 2
    assert laws.expected_kl(loc, scale, prior) == pytest.approx(exact, rel=1e-6)
