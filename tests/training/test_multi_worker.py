"""Real processes over loopback: workers that train together, are killed, and go on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests import processes
from tests.training import programs
from tfbnn import launch
from tfbnn.training import strategies
from tfbnn.weights import noise

PROGRAMS = str(pathlib.Path(programs.__file__))
LIMIT = 240


def _environment(**more):
    root = pathlib.Path(__file__).parents[2]
    kept = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    return {**kept, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "-1", **more}


def _launch(*arguments, restarts=0, **environment):
    command = [sys.executable, "-m", "tfbnn.launch", "--workers", "2", "--restarts", str(restarts)]
    return subprocess.run(
        [*command, "--", sys.executable, PROGRAMS, *map(str, arguments)],
        env=_environment(**environment),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def _weights(path):
    with np.load(path) as file:
        return [file[name] for name in sorted(file.files)]


def _assert_same(one, other, **tolerance):
    assert len(one) == len(other)
    for weight, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(weight, expected, **tolerance)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of two workers that did all that `programs.together` has them do."""
    folder = tmp_path_factory.mktemp("together")
    done = _launch("together", folder)
    assert done.returncode == 0, done.stdout
    return folder


def test_two_workers_make_the_update_of_one_device(together, tmp_path, monkeypatch):
    folder = together / "update"
    first, second = (_weights(folder / f"weights-{i}.npz") for i in (0, 1))
    _assert_same(first, second)
    facts = [json.loads((folder / f"facts-{i}.json").read_text()) for i in (0, 1)]
    assert facts[0] == facts[1]
    assert facts[0]["N"] == facts[0]["rows"] == 23
    # The same here, on one device, in the same order.
    monkeypatch.setattr(noise, "standard_normal", lambda shape, seed: tf.zeros(shape))
    keras.utils.set_random_seed(1)
    layers = [tfbnn.layers.DenseFlipout(8, activation="relu"), tfbnn.layers.DenseFlipout(2)]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(0.1), loss=programs.LOSS, metrics=["accuracy"])
    resume = tfbnn.callbacks.ResumeTraining(tmp_path / "state")
    x, y = programs.X, programs.Y
    history = model.fit(x, y, batch_size=7, epochs=2, verbose=0, callbacks=[resume]).history
    _assert_same(first, model.get_weights(), rtol=2e-4, atol=2e-6)
    for name, values in history.items():
        np.testing.assert_allclose(facts[0]["history"][name], values, rtol=1e-4, err_msg=name)
    scores = model.evaluate(x, y, verbose=0, return_dict=True)
    assert facts[0]["scores"] == pytest.approx(scores, rel=1e-4)
    # The chief alone wrote its log, and what it made of the model is whole.
    assert (folder / "log-0" / "sigma.csv").exists() and not (folder / "log-1").exists()
    pruned = tfbnn.load_model(folder / "pruned.keras")
    assert np.count_nonzero(pruned.layers[0].kernel.loc) < 24
    assert (folder / "saved_model" / "saved_model.pb").exists()


def _uninterrupted(folder):
    model = programs.model_of(tf.distribute.get_strategy())
    resume = tfbnn.callbacks.ResumeTraining(folder / "uninterrupted")
    options = {"batch_size": 7, "epochs": 3, "verbose": 0, "callbacks": [resume]}
    return model.fit(programs.X, programs.Y, **options).history, model.get_weights()


def test_a_killed_process_goes_on_to_the_same_weights(tmp_path):
    # Within the first epoch before and after a state, at its last batch, and in the third epoch.
    steps = ["1", "3", "4", "11"]
    for expected in [-signal.SIGKILL] * len(steps) + [0]:
        process = processes.start(
            programs.main, "resuming", str(tmp_path), *steps, KILLED="0", TF_CONFIG=""
        )
        process.join(LIMIT)
        assert process.exitcode == expected
    history, weights = _uninterrupted(tmp_path)
    _assert_same(_weights(tmp_path / "weights-0.npz"), weights, rtol=1e-5, atol=1e-7)
    # The epoch in which it was killed is reported whole.
    last = json.loads((tmp_path / "facts-0.json").read_text())
    for name, values in history.items():
        assert last[name][-1] == pytest.approx(values[-1], rel=1e-4), name
    assert not list((tmp_path / "state").iterdir())


def test_a_cluster_whose_worker_is_killed_goes_on_to_the_same_weights(together, tmp_path):
    done = _launch("resuming", tmp_path, "3", "9", restarts=2, KILLED="1")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("killed by signal 9") == 2
    whole = _weights(together / "uninterrupted" / "weights-0.npz")
    for worker in (0, 1):
        _assert_same(_weights(tmp_path / f"weights-{worker}.npz"), whole, rtol=1e-5, atol=1e-7)


def test_a_worker_that_never_appears_is_named(monkeypatch):
    ports = launch._free_ports(2)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    message = rf"these did not appear within 0.5 s: 1 \(127.0.0.1:{ports[1]}"
    with pytest.raises(TimeoutError, match=message):
        strategies.get("multi_worker", time_limit=0.5)


@pytest.mark.xfail(strict=True, reason="Keras reduces tuples, and scalars along an axis")
def test_keras_trains_under_the_multi_worker_strategy(together):
    results = [path.read_text() for path in (together / "keras_alone").iterdir()]
    assert results == ["trained"] * 2


def test_the_launcher_gives_up_and_says_so(capsys):
    command = ["--restarts", "1", "--", sys.executable, "-c", "import sys; sys.exit(3)"]
    assert launch.main(command) == 3
    printed = capsys.readouterr().out
    assert printed.count("exit code 3") == 2 and "starting all workers again (1 of 1)" in printed


def test_wrong_options_are_not_tried_again(capsys):
    assert launch.main(["--", sys.executable, "-c", "import sys; sys.exit(2)"]) == 2
    assert "starting all workers again" not in capsys.readouterr().out


def test_the_launcher_stops_what_a_worker_leaves_behind(capsys):
    code = "import subprocess, sys; subprocess.Popen(['sleep', '300']); sys.exit(4)"
    assert launch.main(["--restarts", "0", "--", sys.executable, "-c", code]) == 4


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["terminate", "ctrl-C"])
def test_a_stopped_launcher_stops_its_workers(tmp_path, stop):
    # Workers that do not want to end, and somebody who is in a hurry.
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open(r'{tmp_path}/' + str(os.getpid()), 'w'); time.sleep(300)"
    )
    # The tests may run in the background, where ctrl-C is ignored, and so in their children.
    start = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('tfbnn.launch', run_name='__main__')"
    )
    command = [sys.executable, "-c", start, "--", sys.executable, "-c", code]
    with subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE) as launcher:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.1)
        launcher.send_signal(stop)
        time.sleep(0.5)
        launcher.send_signal(stop)
        assert launcher.wait(30) == 128 + stop
        assert b"Traceback" not in launcher.stderr.read()
    for worker in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker.name), 0)


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (["no-such-command", "-x"], 127, "No such file or directory"),
        (["/"], 126, "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run_is_one_clear_line(command, code, reason, capsys):
    with pytest.raises(SystemExit) as stopped:
        launch.main(["--", *command])
    assert stopped.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"launch: cannot run the command ({reason}), so all workers were")
    assert line.endswith(f"Received: {' '.join(command)}")


def test_workers_that_had_started_are_stopped_when_one_cannot(monkeypatch):
    started = []

    def start(*args, **options):
        if started:
            raise PermissionError(13, "Permission denied")
        started.append(popen(*args, **options))
        return started[0]

    popen = subprocess.Popen
    monkeypatch.setattr(launch.subprocess, "Popen", start)
    with pytest.raises(SystemExit, match="126"):
        launch.main(["--", "sleep", "300"])
    assert started[0].returncode == -signal.SIGTERM


def test_the_code_of_a_killed_worker_is_that_of_a_shell():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert launch.main(["--restarts", "0", "--", sys.executable, "-c", code]) == 128 + 9


def test_workers_with_other_folders_are_refused(together):
    for worker in ("0", "1"):
        refusal = (together / "apart" / f"refusal-{worker}").read_text()
        assert "do not see the same state" in refusal


def test_the_launcher_refuses_no_workers(capsys):
    with pytest.raises(SystemExit, match="2"):
        launch.main(["--workers", "0", "--", "true"])
    assert "at least 1 worker" in capsys.readouterr().err
