import json
import socket

from keras_tuner.engine.trial import TrialStatus

from tfbnn import search

PATIENCE = 150


def test_a_chief_and_two_workers_share_a_search(start, small_search, tmp_path):
    folder = tmp_path / "shared"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
    names = ("chief", "tuner0", "tuner1")
    processes = {name: start(folder, KERASTUNER_TUNER_ID=name, **address) for name in names}
    for name, process in processes.items():
        process.join(PATIENCE)
        text = process.log.read_text()
        assert process.exitcode == 0, f"{name}:\n{text}"
        kind = "RandomSearchOracle" if name == "chief" else "OracleClient"
        assert f"done {name} {kind}" in text
    trials = [json.loads(path.read_text()) for path in sorted(folder.glob("trial_*/trial.json"))]
    assert [trial["status"] for trial in trials] == [TrialStatus.COMPLETED] * small_search.TRIALS
    assert len({json.dumps(trial["hyperparameters"]["values"]) for trial in trials}) == 3

    # The folder is that of any search: one process reads it, finds nothing left to do, and the
    # weights that a worker saved are there.
    tuner = small_search.run(small_search.opened(folder))
    assert [row["score"] for row in search.trials(tuner)] == [trial["score"] for trial in trials]
    row, model = search.best(tuner)
    scores = tuner.hypermodel.objective(model, *small_search.data())
    assert abs(scores["validation_nll"] - row["score"]) < 1e-4
