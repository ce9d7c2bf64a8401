import dataclasses

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FailedTrialError, FatalValueError

import tfbnn
from tfbnn import recipes, search

PRIOR = {"scale_mixture": {"pi": (0.25,), "sigma1": (2.0,), "sigma2": (0.01,)}}


def test_a_model_is_what_the_hyperparameters_say(small_search):
    space = search.Space(
        estimators=("LocalReparameterization",),
        priors=PRIOR,
        initial_scale=(0.02,),
        recipes=("sparse",),
        beta=(0.5,),
        warm_up=(0.25,),
        depths=(1, 2),
        widths=(4, 8),
        learning_rate=(0.003,),
    )
    hypermodel = search.BayesianHyperModel((4,), outputs=3, space=space)
    hp = keras_tuner.HyperParameters()
    hp.values = {"depth": 2, "width_1": 8, "width_2": 4}
    model = hypermodel.build(hp)
    layers = tfbnn.layers.AbstractVariationalLayer
    dense = [layer for layer in model.layers if isinstance(layer, layers)]
    assert [layer.units for layer in dense] == [8, 4, 3]
    for layer in dense:
        assert isinstance(layer, tfbnn.layers.DenseLocalReparameterization)
        assert layer.kernel.prior == tfbnn.priors.ScaleMixture(0.25, 2.0, 0.01)
        np.testing.assert_allclose(layer.kernel.scale, 0.02, rtol=1e-4)
    assert model.objective.beta == 0.5
    assert model.objective.recipe.warm_up == 0.25
    assert float(model.optimizer.learning_rate) == pytest.approx(0.003)


def test_by_default_a_trial_is_trained_as_the_recipe_of_the_elbo_says(small_search):
    hp = keras_tuner.HyperParameters()
    model = small_search.small_hypermodel().build(hp)
    expected = dataclasses.replace(tfbnn.recipes.get("elbo"), learning_rate=hp["learning_rate"])
    assert model.objective.recipe == expected and model.objective.beta == 1.0


def test_what_the_space_leaves_open_is_that_of_the_recipe():
    space = search.Space(recipes=("calibrated", "sparse"))
    hypermodel = search.BayesianHyperModel((4,), outputs=3, space=space)
    for name in space.recipes:
        objective = hypermodel.build(_with(recipe=name)).objective
        recipe = tfbnn.recipes.get(name)
        assert objective.beta == recipe.beta and objective.recipe.warm_up == recipe.warm_up


def _with(**values):
    hp = keras_tuner.HyperParameters()
    hp.values.update(values)
    return hp


def test_a_network_of_ones_own():
    def network(hp, dense, convolution):
        filters = hp.Int("filters", 2, 4)
        return [convolution(filters, 3), keras.layers.Flatten(), dense(2)]

    hypermodel = search.BayesianHyperModel((6, 6, 1), network=network)
    model = hypermodel.build(keras_tuner.HyperParameters())
    assert isinstance(model.layers[0], tfbnn.layers.Convolution2DFlipout)
    filters = hypermodel.build(_with(filters=4)).layers[0].filters
    assert (model.layers[0].filters, filters) == (2, 4)
    assert model.output_shape == (None, 2)


def test_the_perceptron_needs_no_convolution_and_one_kind_of_network_is_given():
    for options in ({}, {"outputs": 3, "network": lambda *_: []}):
        with pytest.raises(ValueError, match="Give either `outputs`, for a perceptron, or `net"):
            search.BayesianHyperModel((4,), **options)


def test_a_loss_with_a_state_is_not_shared_between_trials():
    loss = tfbnn.losses.NormalNLL(scale="learned")
    hypermodel = search.BayesianHyperModel((4,), outputs=1, loss=loss)
    losses = [hypermodel.build(keras_tuner.HyperParameters()).likelihood.loss for _ in range(2)]
    assert losses[0] is not losses[1]
    assert all(isinstance(one, tfbnn.losses.NormalNLL) and one is not loss for one in losses)


def test_a_trial_is_a_function_of_its_hyperparameters(small_search):
    x, y = small_search.data()
    hypermodel = small_search.small_hypermodel(objective=search.MonteCarloNLL(num_samples=4))
    scores = []
    for other in (1, 2):
        keras.utils.set_random_seed(other)
        hp = keras_tuner.HyperParameters()
        model = hypermodel.build(hp)
        scores.append(hypermodel.fit(hp, model, x, y, validation_data=(x, y), epochs=2))
    assert scores[0].pop("seconds") > 0 and scores[1].pop("seconds") > 0
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_a_trial_is_trained_by_its_recipe_with_its_learning_rate():
    space = search.Space(recipes=("sparse",), learning_rate=(0.1,), beta=(0.5,))
    hypermodel = search.BayesianHyperModel((4,), outputs=1, space=space)
    recipe = hypermodel.build(keras_tuner.HyperParameters()).objective.recipe
    expected = dataclasses.replace(recipes.RECIPES["sparse"], learning_rate=0.1, beta=0.5)
    assert recipe == expected


def test_the_steps_of_a_trial_fall_to_nothing_from_where_it_was(small_search):
    x, y = small_search.data()
    hypermodel = small_search.small_hypermodel(space=search.Space(learning_rate=(0.01,)))
    hp = keras_tuner.HyperParameters()
    model = hypermodel.build(hp)
    means, moves = [], []

    def note(epoch, logs):
        before, after = means[-1:], np.ravel(model.layers[-1].kernel.loc)
        moves.extend(np.linalg.norm(after - one) for one in before)
        means.append(after)

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=note)]
    data = {"validation_data": (x, y), "callbacks": callbacks, "batch_size": len(x)}
    hypermodel.fit(hp, model, x, y, epochs=40, **data)
    assert moves[-1] < 0.02 * moves[0]
    # As Hyperband does: a trial that goes on has no second start.
    first = moves[0]
    moves.clear()
    means.clear()
    hypermodel.fit(hp, model, x, y, epochs=80, initial_epoch=77, **data)
    assert max(moves) < 0.02 * first


def test_an_optimizer_of_ones_own_keeps_its_schedule():
    space = search.Space(learning_rate=(0.1,))

    def optimizer(rate):
        return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(rate, 10))

    hypermodel = search.BayesianHyperModel((4,), outputs=1, space=space, optimizer=optimizer)
    model = hypermodel.build(keras_tuner.HyperParameters())
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
    assert model.objective.recipe == recipes.Recipe(learning_rate=None)


def test_a_loss_that_is_not_finite_fails_the_trial_at_once(small_search):
    x, y = small_search.data()
    hypermodel = small_search.small_hypermodel(space=search.Space(learning_rate=(1e30,)))
    hp = keras_tuner.HyperParameters()
    with pytest.raises(FailedTrialError, match="The loss is (nan|inf) after epoch [12]: a smaller"):
        hypermodel.fit(hp, hypermodel.build(hp), x, y, validation_data=(x, y), epochs=50)


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_score_that_is_not_finite_fails_the_trial(score, small_search):
    class Broken:
        name = "broken"

        def __call__(self, model, x, y):
            return {"broken": score}

    x, y = small_search.data()
    hypermodel = small_search.small_hypermodel(objective=Broken())
    hp = keras_tuner.HyperParameters()
    with pytest.raises(FailedTrialError, match="A score is not finite. Received: {'broken'"):
        hypermodel.fit(hp, hypermodel.build(hp), x, y, validation_data=(x, y))


def test_no_validation_data_end_the_search(small_search, tmp_path):
    with pytest.raises(FatalValueError, match="pass `validation_data=.*type NoneType"):
        small_search.opened(tmp_path / "s").search(*small_search.data(), verbose=0)


def test_failed_trials_are_noted_and_the_search_goes_on(small_search, tmp_path):
    space = search.Space(depths=(1,), widths=(4,), learning_rate=(1e30, 0.01))
    hypermodel = small_search.small_hypermodel(space=space)
    tuner = small_search.opened(tmp_path / "s", hypermodel=hypermodel, max_trials=4)
    rows = search.trials(small_search.run(tuner))
    assert len(rows) == 4
    diverged = [row["hyperparameters"]["learning_rate"] > 1 for row in rows]
    assert 0 < sum(diverged) < 4
    for row, failed in zip(rows, diverged, strict=True):
        assert row["status"] == (TrialStatus.FAILED if failed else TrialStatus.COMPLETED)
        assert (row["score"] is None) is failed
        if failed:
            assert "The loss is" in row["message"]
    best, model = search.best(tuner)
    assert best["hyperparameters"]["learning_rate"] == 0.01
    assert np.isfinite(model.get_weights()[0]).all()


def test_a_search_in_which_all_trials_fail_ends(small_search, tmp_path):
    space = search.Space(depths=(1,), widths=(4,), learning_rate=(1e30,))
    hypermodel = small_search.small_hypermodel(space=space)
    options = {"max_trials": 9, "max_consecutive_failed_trials": 2}
    tuner = small_search.opened(tmp_path / "s", hypermodel=hypermodel, **options)
    with pytest.raises(RuntimeError, match="consecutive failures exceeded the limit of 2"):
        small_search.run(tuner)
    with pytest.raises(ValueError, match="No trial was completed.* 2 trials, .*The loss is"):
        search.best(tuner)
