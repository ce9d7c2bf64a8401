"""Search: hyperparameters of Bayesian networks, with keras-tuner.

* `Space`: what is searched over, as data; `Range`: an interval in it; `choose`: a value of it, for
  networks of your own.
* `BayesianHyperModel`: a `keras_tuner.HyperModel`: from hyperparameters to a model, its training
  and its score.
* `MonteCarloNLL`, `Bytes`: what a trial is scored by, always on validation data.
* `open_tuner`: one of keras-tuner's tuners on a folder; a search that was interrupted goes on.
* `trials`, `best`, `plot`: what came out.

Not offered: several objectives at once, and scores on test data. Needs the package keras-tuner,
which `import tfbnn` alone does not.
"""

try:
    import keras_tuner  # noqa: F401
except ImportError as error:
    raise ImportError(
        "`tfbnn.search` needs the packages keras-tuner and tensorboard: "
        '`pip install "tfbnn[search]"`.'
    ) from error

from tfbnn.search.hypermodel import BayesianHyperModel as BayesianHyperModel
from tfbnn.search.hypermodel import perceptron as perceptron
from tfbnn.search.objectives import Bytes as Bytes
from tfbnn.search.objectives import MonteCarloNLL as MonteCarloNLL
from tfbnn.search.results import best as best
from tfbnn.search.results import plot as plot
from tfbnn.search.results import trials as trials
from tfbnn.search.space import Range as Range
from tfbnn.search.space import Space as Space
from tfbnn.search.space import choose as choose
from tfbnn.search.tuners import open_tuner as open_tuner
