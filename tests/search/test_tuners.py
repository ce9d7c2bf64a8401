import keras_tuner
import pytest
from keras_tuner.engine.trial import TrialStatus

from tfbnn import search
from tfbnn.search.tuners import TUNERS


# Of the Gaussian process, on two points.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["random", "bayesian"])
def test_the_best_model_is_the_one_that_was_scored(kind, small_search, tmp_path):
    options = {"num_initial_points": 2} if kind == "bayesian" else {}
    hypermodel = small_search.small_hypermodel(objective=search.MonteCarloNLL(num_samples=4))
    tuner = small_search.run(small_search.opened(tmp_path / "s", kind, hypermodel, **options))
    assert type(tuner) is TUNERS[kind]
    rows = search.trials(tuner)
    assert [row["status"] for row in rows] == [TrialStatus.COMPLETED] * small_search.TRIALS
    best, model = search.best(tuner)
    assert best["score"] == min(row["score"] for row in rows)
    scores = tuner.hypermodel.objective(model, *small_search.data())
    assert scores["validation_nll"] == pytest.approx(best["score"], rel=1e-4)


def test_hyperband_trains_its_best_trials_further(small_search, tmp_path):
    fits = []

    class Recorded(small_search.Eager):
        def fit(self, hp, model, *args, epochs, initial_epoch=0, **options):
            fits.append((initial_epoch, epochs, int(model.optimizer.iterations)))
            options |= {"epochs": epochs, "initial_epoch": initial_epoch}
            return super().fit(hp, model, *args, **options)

    options = {"space": small_search.SPACE, "objective": small_search.MeanNLL()}
    hypermodel = Recorded((4,), outputs=3, **options)
    tuner = small_search.opened(tmp_path / "s", "hyperband", hypermodel, max_epochs=2, factor=2)
    small_search.run(tuner, batch_size=small_search.ROWS // 4)
    # Two trials of one epoch, the better one a second epoch from where it was (four steps, with
    # the optimizer's state), and a bracket of two trials of two epochs.
    assert sorted(fits) == [(0, 1, 0), (0, 1, 0), (0, 2, 0), (0, 2, 0), (1, 2, 4)]
    assert {row["status"] for row in search.trials(tuner)} == {TrialStatus.COMPLETED}


def test_keras_tuners_own_classes_work_too(small_search, tmp_path):
    hypermodel = small_search.small_hypermodel()
    place = {"directory": tmp_path, "project_name": "s"}
    objective = hypermodel.tuner_objective
    tuner = keras_tuner.RandomSearch(hypermodel, objective=objective, max_trials=1, **place)
    (row,) = search.trials(small_search.run(tuner))
    assert row["scores"]["validation_nll"] == row["score"]


def test_an_unknown_tuner_is_an_error(small_search, tmp_path):
    with pytest.raises(ValueError, match="`tuner` must be one of .*'hyperband'.* tuner='grid'"):
        small_search.opened(tmp_path / "s", "grid")
