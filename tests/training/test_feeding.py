"""Batches come in the same order, and their iterators do not tune themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.training.feeding import fed, without_autotuning

X = np.arange(10, dtype="float32")[:, np.newaxis]
Y = np.arange(10) % 2


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[5 * index : 5 * index + 5], Y[5 * index : 5 * index + 5]


def _generator():
    yield X, Y


SOURCES = {
    "arrays": lambda: fed(X, Y, batch_size=4),
    "weighted arrays": lambda: fed(X, Y, np.ones(10), shuffle=True, class_weight=None),
    "data set": lambda: fed(tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)),
    "class weights": lambda: fed(
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(4), class_weight={0: 1.0, 1: 2.0}
    ),
    "PyDataset": lambda: fed(Batches()),
    "generator": lambda: fed(_generator()),
}


@pytest.mark.parametrize("source", SOURCES)
def test_no_data_set_of_keras_tunes_itself(source):
    options = SOURCES[source]().get_tf_dataset().options()
    assert options.autotune.enabled is False
    assert options.autotune.initial_parallelism >= 1


def test_what_the_user_says_of_tuning_stays():
    dataset = tf.data.Dataset.range(4).batch(2)
    options = tf.data.Options()
    options.autotune.enabled = True
    assert fed(dataset.with_options(options)).get_tf_dataset().options().autotune.enabled
    options = tf.data.Options()
    options.autotune.initial_parallelism = 3
    found = without_autotuning(dataset.with_options(options)).options()
    assert found.autotune.initial_parallelism == 3 and found.autotune.enabled is False


def test_the_elements_and_their_order_stay():
    def batches(change):
        dataset = tf.data.Dataset.range(50).shuffle(20, seed=3).batch(8)
        dataset = change(dataset.map(lambda v: v + 1, num_parallel_calls=tf.data.AUTOTUNE))
        # Shuffled anew in each epoch.
        return [batch.numpy().tolist() for _ in range(2) for batch in dataset]

    expected = batches(lambda dataset: dataset)
    assert batches(without_autotuning) == expected
    assert expected[:7] != expected[7:]


def _keras_model(kind):
    model = kind([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="ones")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss=loss, run_eagerly=True)
    return model


def _trained(source, kind):
    rows = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(10, seed=1).batch(3)
    data, options = {
        "arrays": ((X, Y), {"batch_size": 3}),
        "split": ((X, Y), {"batch_size": 3, "validation_split": 0.3}),
        "data set": ((rows,), {}),
        "PyDataset": ((Batches(),), {"shuffle": False}),
        "weights": ((X, Y), {"batch_size": 3, "class_weight": {0: 0.5, 1: 2.0}}),
    }[source]
    if kind is tfbnn.Sequential and len(data) == 1:
        # Counting the examples would be one more pass, and the order of the next pass another one.
        options["num_examples"] = 10
    keras.utils.set_random_seed(0)
    model = _keras_model(kind)
    logs = model.fit(*data, epochs=2, verbose=0, **options).history
    return model.get_weights(), logs.get("val_loss"), model.predict(X, verbose=0)


@pytest.mark.parametrize("source", ["arrays", "split", "data set", "PyDataset", "weights"])
def test_fit_sees_what_keras_sees(source):
    """Without a random weight a tfbnn model is a Keras model, batch by batch."""
    found = [_trained(source, kind) for kind in (tfbnn.Sequential, keras.Sequential)]
    (weights, loss, outputs), (keras_weights, keras_loss, keras_outputs) = found
    for one, other in zip(weights, keras_weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(outputs, keras_outputs, rtol=1e-5)
    if source == "split":
        np.testing.assert_allclose(loss, keras_loss, rtol=1e-5)
