"""Units: which go, that all of them goes, and that they stay away."""

import keras
import numpy as np
import pytest
from scipy import stats

import tfbnn
from tests.pruning.models import spread
from tests.quiet import QUIET
from tfbnn.posterior import posterior_of
from tfbnn.pruning import masks
from tfbnn.pruning.unit_ranking import UnitRanking
from tfbnn.weights import noise

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Dense = tfbnn.layers.DenseFlipout
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
Y = RNG.integers(0, 3, size=32)


def compiled(model):
    model.compile("adam", SPARSE)
    return spread(model, biases=True)


def make_model(bias="point"):
    options = QUIET | {"bias_posterior": bias}
    layers = [Dense(n, "relu", **options) for n in (12, 9)]
    return compiled(tfbnn.Sequential([keras.Input((6,)), *layers, Dense(3, **QUIET)]))


def kept(model):
    return [kernel.mask.numpy() == 1 for kernel in masks.prunable_weights(model)]


def alive(model):
    """Which units of each layer but the last are there; a unit lives or dies as a whole."""
    masks_of_layers = kept(model)
    units = []
    for one, other in zip(masks_of_layers[:-1], masks_of_layers[1:], strict=True):
        incoming, outgoing = one.any(0), other.any(1)
        np.testing.assert_array_equal(incoming, outgoing)
        units.append(incoming)
    for index, mask in enumerate(masks_of_layers):
        rows = units[index - 1] if index else np.ones(mask.shape[0], bool)
        columns = units[index] if index < len(units) else np.ones(mask.shape[1], bool)
        np.testing.assert_array_equal(mask, np.outer(rows, columns))
    return units


def expected_scores(model, criterion):
    """By loops over units, the smaller of the scores of incoming and outgoing weights."""
    kernels = masks.prunable_weights(model)
    scores = []
    for one, other in zip(kernels[:-1], kernels[1:], strict=True):
        for unit in range(one.shape[1]):
            sides = [(k.loc.numpy(), k.scale.numpy()) for k in (one, other)]
            incoming = [part[:, unit] for part in sides[0]]
            outgoing = [part[unit] for part in sides[1]]
            scores.append(min(score_of(criterion, *side) for side in (incoming, outgoing)))
    return np.array(scores)


def score_of(criterion, loc, scale):
    if criterion == "snr":
        return np.sqrt((loc**2).sum() / (scale**2).sum())
    zero_density = -stats.norm.logpdf(0, loc, scale).sum()
    return zero_density + (stats.norm.logpdf(0) * loc.size if criterion == "savage_dickey" else 0)


@pytest.mark.parametrize("criterion", ["snr", "zero_density", "savage_dickey"])
def test_the_lowest_scores_go(criterion):
    model = make_model()
    scores = expected_scores(model, criterion)
    ranking = UnitRanking(model, criterion)
    np.testing.assert_allclose(ranking._score[1:], scores, rtol=1e-3, atol=1e-3)
    there = np.concatenate(alive(tfbnn.prune(model, 0.5, criterion=criterion, granularity="unit")))
    assert 0 < there.sum() < there.size
    assert scores[~there].max() < scores[there].min()


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.5, 0.7])
def test_the_sparsity_is_met_from_below(sparsity):
    model = make_model()
    pruned = tfbnn.prune(model, sparsity, granularity="unit")
    assert masks.sparsity_of(pruned) <= sparsity + 0.5 / 207
    # One more unit, in the order of the scores, would have been too many.
    removed = ~np.concatenate(alive(pruned))
    lowest = np.flatnonzero(~removed)[expected_scores(model, "snr")[~removed].argmin()]
    removed[lowest] = True
    first, second = ~removed[:12], ~removed[12:]
    left = 6 * first.sum() + first.sum() * second.sum() + 3 * second.sum()
    assert 207 - left > round(sparsity * 207)


def test_each_layer_by_itself():
    pruned = tfbnn.prune(make_model(), 0.5, scope="layer", granularity="unit")
    assert [int(units.sum()) for units in alive(pruned)] == [6, 5]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_one_unit_of_each_layer_stays(scope):
    """10 of 207 weights are left then."""
    with pytest.warns(
        UserWarning, match="one unit of each layer stays.*Received: sparsity=0.99, reached 0.952$"
    ) as caught:
        pruned = tfbnn.prune(make_model(), 0.99, scope=scope, granularity="unit")
    assert [w.filename for w in caught if w.category is UserWarning] == [__file__]
    assert [int(units.sum()) for units in alive(pruned)] == [1, 1]
    tfbnn.prune(make_model(), 0.96, scope=scope, granularity="unit")


def test_units_that_stay_do_not_stop_others():
    """The lowest score is that of a wide layer's only unit, which is too large to go as well."""
    layers = [Dense(1, "relu"), Dense(12, "relu"), Dense(3)]
    model = compiled(tfbnn.Sequential([keras.Input((60,)), *layers]))
    first = masks.prunable_weights(model)[0]
    first.loc_variable.assign(np.full(first.shape, 1e-3))
    pruned = tfbnn.prune(model, 0.3, granularity="unit")
    # A unit of the second layer has 4 of the 108 weights; 32 may go.
    assert [int(units.sum()) for units in alive(pruned)] == [1, 4]


@pytest.mark.parametrize("granularity", ["weight", "block"])
def test_weights_and_blocks_leave_no_layer_empty(granularity):
    with pytest.raises(ValueError, match="would be left without a weight.*scope='global'"):
        tfbnn.prune(make_model(), 0.999, granularity=granularity)
    pruned = tfbnn.prune(make_model(), 0.999, scope="layer", granularity=granularity)
    assert all(mask.any() for mask in kept(pruned))


def test_threshold():
    model = make_model()
    scores = expected_scores(model, "snr")
    threshold = float(np.sort(scores)[9:11].mean())
    pruned = tfbnn.prune(model, threshold=threshold, granularity="unit")
    np.testing.assert_array_equal(np.concatenate(alive(pruned)), scores > threshold)
    with pytest.raises(
        ValueError,
        match=r"layer 'dense_flipout' would be left.*threshold=1e\+09, highest score \d+\.\d+$",
    ):
        tfbnn.prune(model, threshold=1e9, granularity="unit")


def test_noise_on_either_side_is_worth_nothing():
    model = make_model()
    first, second, _ = masks.prunable_weights(model)
    loc = first.loc.numpy() + 5
    loc[:, 3] = 0.001
    first.loc_variable.assign(loc)
    loc = second.loc.numpy() + 5
    loc[7] = 0.001
    second.loc_variable.assign(loc)
    score = UnitRanking(model, "snr")._score[1:13]
    assert set(np.argsort(score)[:2]) == {3, 7}


def test_cumulative_with_weights_and_blocks():
    pruned = tfbnn.prune(make_model(), 0.4)
    units = tfbnn.prune(pruned, 0.7, granularity="unit")
    for before, after in zip(kept(pruned), kept(units), strict=True):
        assert not (after & ~before).any()
    assert 0.55 < masks.sparsity_of(units) <= 0.7 + 0.5 / 207
    again = tfbnn.prune(units, 0.5, granularity="unit")
    assert masks.num_weights(again) == masks.num_weights(units)


@pytest.mark.parametrize("bias", ["point", "normal"])
def test_a_removed_unit_contributes_nothing_and_stays_away(bias, tmp_path):
    pruned = tfbnn.prune(make_model(bias), 0.5, granularity="unit")
    there = alive(pruned)
    for layer, units in zip(pruned.layers, there, strict=False):
        assert (layer.bias.loc.numpy()[~units] == 0).all()
        assert (layer.bias.loc.numpy()[units] != 0).all()
    pruned.fit(X, Y, epochs=2, verbose=0)
    for before, after in zip(there, alive(pruned), strict=True):
        np.testing.assert_array_equal(before, after)
    # Whatever the biases are, the outputs stay, at the mean and in a draw.
    expected = [pruned(X), *answers(pruned)]
    for layer, units in zip(pruned.layers, there, strict=False):
        loc = layer.bias.loc.numpy()
        layer.bias.loc_variable.assign(np.where(units, loc, 100.0))
    for one, other in zip(expected, [pruned(X), *answers(pruned)], strict=True):
        np.testing.assert_array_equal(one, other)
    pruned.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(X), pruned(X), atol=1e-5)


def answers(model):
    """The outputs of three networks that the posterior draws."""
    posterior = posterior_of(model)
    variables = [weight.loc_variable for weight in posterior.weights]
    before = [variable.numpy() for variable in variables]
    for number in range(3):
        for variable, value in zip(variables, posterior.draw(noise.as_seed(number)), strict=True):
            variable.assign(value)
        yield np.asarray(model(X))
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def test_tied_units_go_together():
    inputs, layers = keras.Input((6,)), [Dense(8), Dense(8, "relu"), Dense(8), Dense(3)]
    start = layers[0](inputs)
    x = keras.layers.Add()([start, layers[2](layers[1](start))])
    model = compiled(tfbnn.Model(inputs, layers[3](x)))
    pruned = tfbnn.prune(model, 0.5, granularity="unit")
    first, inner, second, last = kept(pruned)
    tied = first.any(0)
    assert 0 < tied.sum() < 8
    for there in (inner.any(1), second.any(0), last.any(1)):
        np.testing.assert_array_equal(there, tied)
    np.testing.assert_array_equal(inner.any(0), second.any(1))


def test_plain_layers_hold_their_units():
    layers = [Dense(5, "relu"), keras.layers.Dense(6, "relu"), Dense(7, "relu"), Dense(3)]
    model = compiled(tfbnn.Sequential([keras.Input((6,)), *layers]))
    with pytest.warns(
        UserWarning, match="all units that touch a layer.*sparsity=0.9, reached 0.581"
    ):
        pruned = tfbnn.prune(model, 0.9, granularity="unit")
    first, second, third = kept(pruned)
    assert first.all() and second.any(1).all()
    assert second.any(0).sum() == third.any(1).sum() == 1


def test_no_unit_can_be_removed():
    model = compiled(tfbnn.Sequential([keras.Input((6,)), Dense(3)]))
    with pytest.raises(ValueError, match="No unit of the model can be removed.*Received: model="):
        tfbnn.prune(model, 0.5, granularity="unit")


@keras.saving.register_keras_serializable("test_unit_ranking")
class Subclass(tfbnn.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.last = Dense(4, "relu"), Dense(3)

    def call(self, inputs, training=None):
        return self.last(self.hidden(inputs, training=training), training=training)


def test_a_graph_that_is_not_known():
    model = Subclass()
    model(X)
    with pytest.raises(ValueError, match="in a `call` of its own.*type Subclass"):
        tfbnn.prune(compiled(model), 0.5, granularity="unit")
