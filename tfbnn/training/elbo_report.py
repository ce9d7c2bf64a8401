"""The result of `tfbnn.check_elbo`: numbers, and what they mean in words."""

import dataclasses
import math
import textwrap

from tfbnn.training.convergence import REMEDY, has_not_trained, in_words

_WIDTH = 96


@dataclasses.dataclass(frozen=True)
class LayerKL:
    """KL of one layer: its random weights that are not pruned, nats, and whether it is exact."""

    name: str
    weights: int
    kl: float
    exact: bool


@dataclasses.dataclass(frozen=True)
class ElboReport:
    """Both terms of the ELBO of a model; `print` it to read it.

    Attributes:
        nll: Negative log likelihood in nats per example, with the noise of training, as trained
            (each output times its loss weight).
        nll_standard_error: Standard error of `nll` over the noise draws; NaN for one draw.
        nll_at_mean: The same without noise, at the posterior mean of the weights.
        chance_nll: `nll` of giving every class the same probability; None for real numbers.
        kl: `KL(q || p)` in nats, summed over all random weights.
        kl_standard_error: Its standard error over draws; 0 if every KL has a closed form.
        layers: A `LayerKL` for each layer.
        num_examples: Number of training examples that the model weighs the KL against.
        num_rows: Number of rows that `nll` was computed on.
        num_draws: Number of noise draws.
        beta: Factor of the KL in the loss; 1 is the ELBO.
        kl_weight: Weight of the KL in the loss at this step of training.
        loss_weights: Weight of each output's log likelihood.
        likelihood: The likelihood, by name.
        nll_in_words: What `nll` says about a single answer, if it does.
        sigma_pull: How strongly the loss pulled at sigma at the end of the last `fit`, as a share
            of what the KL alone would: 0 where sigma has arrived; NaN where it is not known. See
            `tfbnn.training.convergence`.
        sigma_pull_standard_error: Its standard error.
        has_learnt_priors: Whether a prior follows the posterior, as `AutomaticRelevance` does. The
            ELBO is then that of empirical Bayes.
    """

    nll: float
    nll_standard_error: float
    nll_at_mean: float
    chance_nll: float | None
    kl: float
    kl_standard_error: float
    layers: tuple[LayerKL, ...]
    num_examples: int
    num_rows: int
    num_draws: int
    beta: float
    kl_weight: float
    loss_weights: tuple[float, ...]
    likelihood: str
    nll_in_words: str = ""
    sigma_pull: float = math.nan
    sigma_pull_standard_error: float = math.nan
    has_learnt_priors: bool = False

    @property
    def num_weights(self) -> int:
        """Number of random weights that are not pruned."""
        return sum(layer.weights for layer in self.layers)

    @property
    def weighted_kl(self) -> float:
        """`kl_weight * kl`: the KL's part of the loss, in nats per example."""
        return self.kl_weight * self.kl

    @property
    def kl_per_example(self) -> float:
        """`kl / num_examples`: the KL's part of the negative ELBO, in nats per example."""
        return self.kl / self.num_examples

    @property
    def negative_elbo(self) -> float:
        """`nll + kl / num_examples`, in nats per example, whatever `beta` is."""
        return self.nll + self.kl_per_example

    @property
    def negative_elbo_standard_error(self) -> float:
        """Standard error of `negative_elbo` over draws."""
        return math.hypot(self.nll_standard_error, self.kl_standard_error / self.num_examples)

    @property
    def loss(self) -> float:
        """What training minimises: `nll + weighted_kl`, without losses of other layers."""
        return self.nll + self.weighted_kl

    @property
    def hints(self) -> tuple[str, ...]:
        """What looks wrong, and what to do about it; empty if nothing does."""
        checks = (_finite, _likelihood, _sigma, _balance, _size)
        return tuple(filter(None, [*(check(self) for check in checks), *_no_elbo(self)]))

    def __str__(self) -> str:
        parts = [*_numbers(self), "", *_table(self)]
        parts += ["", "What it means:", *map(_item, _words(self))]
        if self.hints:
            parts += ["", "Hints:", *map(_item, self.hints)]
        return "\n".join(parts)


def _numbers(report: ElboReport) -> list[str]:
    chance = "" if report.chance_nll is None else f"; guessing blindly: {report.chance_nll:.4f}"
    bound = _with_error(report.negative_elbo, report.negative_elbo_standard_error)
    pull = _with_error(report.sigma_pull, report.sigma_pull_standard_error, 2)
    draws = "draw" if report.num_draws == 1 else "draws"
    lines = [
        f"ELBO on {report.num_rows} examples, {report.num_draws} {draws} of the noise each",
        f"  NLL            {_with_error(report.nll, report.nll_standard_error)} nats per example"
        f" ({report.nll_at_mean:.4f} at the posterior mean{chance})",
        f"  KL             {_with_error(report.kl, report.kl_standard_error, 1)} nats over "
        f"{report.num_weights} random weights",
        f"  num_examples   {report.num_examples}",
        f"  kl_weight      {report.kl_weight:.4g} (beta = {report.beta:g})",
        f"  weighted KL    {report.weighted_kl:.4f} nats per example",
        f"  loss           {report.loss:.4f} nats per example, NLL + weighted KL",
        f"  -ELBO          {bound} nats per example, NLL + KL / num_examples",
    ]
    known = not math.isnan(report.sigma_pull)
    return lines + [f"  sigma's pull   {pull} (0: it has trained)"] * known


def _table(report: ElboReport) -> list[str]:
    width = max(5, *(len(layer.name) for layer in report.layers))
    lines = [f"  {'layer':<{width}} {'weights':>10} {'KL, nats':>14} {'per weight':>11}"]
    for layer in report.layers:
        per_weight = layer.kl / layer.weights if layer.weights else 0.0
        numbers = f"{layer.weights:>10} {layer.kl:>14.1f} {per_weight:>11.4f}"
        note = "" if layer.exact else "  (Monte Carlo)"
        lines.append(f"  {layer.name:<{width}} {numbers}{note}")
    return lines


def _words(report: ElboReport) -> list[str]:
    nll = "NLL: what the data cost under networks drawn from the posterior, on average."
    gap = report.nll - report.nll_at_mean
    learnt = " Its priors were learnt from the same data: compare no models by it, which is "
    learnt += "what the prior `FanIn` is for."
    return [
        nll + report.nll_in_words,
        f"Noise: drawing the weights costs {gap:.4f} nats per example against their mean.",
        "KL: how far the posterior has moved from the prior. The examples share it: it is "
        f"{_percent(report.weighted_kl, report.loss)} of the loss.",
        f"ELBO of all {report.num_examples} examples: "
        f"{-report.num_examples * report.negative_elbo:,.1f} nats, a lower bound of the log "
        "evidence if the rows here are typical of them." + learnt * report.has_learnt_priors,
    ]


def _finite(report: ElboReport) -> str | None:
    if math.isfinite(report.loss):
        return None
    return (
        "The loss is not finite: the outputs overflow. Lower the learning rate, scale the inputs, "
        "or clip the gradients (`clipnorm`)."
    )


def _likelihood(report: ElboReport) -> str | None:
    # A network that has learnt anything gains more than 2 %.
    if report.chance_nll is None or not report.nll > 0.98 * report.chance_nll:
        return None
    if report.nll_at_mean < 0.9 * report.chance_nll:
        return (
            f"With noise the network only guesses (NLL {report.nll:.4f}, guessing: "
            f"{report.chance_nll:.4f}), at the posterior mean it does better "
            f"({report.nll_at_mean:.4f}): the noise drowns the signal. Lower `beta` "
            "(`recipe='calibrated'`), warm the KL up, or start with a smaller scale "
            "(`kernel_posterior=tfbnn.families.Normal(initial_scale=...)`)."
        )
    if report.nll > 1.5 * report.chance_nll:
        return (
            f"NLL is far above that of guessing all classes alike ({report.chance_nll:.4f}): the "
            "network is sure, and wrong. Before training its outputs are too large: scale the "
            "inputs. After it, these rows are not like the training rows, or their labels are in "
            "another order."
        )
    return (
        f"NLL is at the level of guessing all classes alike ({report.chance_nll:.4f}). Before "
        "training that is usual; after it nothing was learnt: check the labels, the learning rate, "
        "and the scale of the inputs."
    )


def _sigma(report: ElboReport) -> str | None:
    if not has_not_trained(report.sigma_pull, report.sigma_pull_standard_error):
        return None
    return (
        f"Sigma has not trained: {in_words(report.sigma_pull)} where the last `fit` ended. {REMEDY}"
    )


def _balance(report: ElboReport) -> str | None:
    if report.chance_nll is not None:
        most, against = report.chance_nll, f"the NLL of guessing ({report.chance_nll:.4f})"
    else:
        # NLL of a density can be anything, also zero or less: a factor, and a nat at least.
        most, against = max(10 * abs(report.nll), 1.0), f"ten times the NLL ({report.nll:.4f})"
    if not report.weighted_kl > most:
        return None
    return (
        f"The KL term, {report.weighted_kl:.4f} nats per example, is more than {against}. Before "
        "and early in training that is usual: it falls while sigma grows. If it stays so, the "
        "loss cares more for the prior than for the data, and the posterior falls back to the "
        f"prior: the prior is too tight or too wide, or {report.num_weights} random weights are "
        f"too many for {report.num_examples} examples. Take another prior or a smaller network, "
        "or lower `beta`, which is no ELBO any more."
    )


def _size(report: ElboReport) -> str | None:
    if report.num_rows == report.num_examples:
        return None
    if report.num_rows > report.num_examples:
        return (
            f"The data here have {report.num_rows} rows, more than num_examples = "
            f"{report.num_examples}. If they are the training data, the KL weighs "
            f"{report.num_rows / report.num_examples:.3g} times too much: set "
            f"`model.num_examples = {report.num_rows}`."
        )
    return (
        f"The data here have {report.num_rows} rows, num_examples is {report.num_examples}. That "
        "is right for a sample of the training data and for held-out rows; if these are all that "
        "the model was trained on, the KL weighs "
        f"{report.num_examples / report.num_rows:.3g} times too little: set "
        f"`model.num_examples = {report.num_rows}`."
    )


def _no_elbo(report: ElboReport) -> list[str]:
    hints = []
    if report.beta != 1:
        kind = "a cold posterior, more certain" if report.beta < 1 else "a posterior less certain"
        hints.append(
            f"beta = {report.beta:g}, so training does not maximise the ELBO: it gives {kind} than "
            "the data and the prior say. `beta=1` in `compile` is the ELBO."
        )
    plain = report.beta / report.num_examples
    if not math.isclose(report.kl_weight, plain, rel_tol=1e-4):
        hints.append(
            f"A KL schedule is at work: kl_weight is {report.kl_weight:.4g} at this step, and "
            f"{plain:.4g} without it."
        )
    if any(weight != 1 for weight in report.loss_weights):
        hints.append(
            f"loss_weights = {list(report.loss_weights)}, so NLL is no log likelihood of the data, "
            "and the sum no ELBO."
        )
    return hints


def _with_error(value: float, error: float, digits: int = 4) -> str:
    if error == 0:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} +- " + ("?" if math.isnan(error) else f"{error:.{digits}f}")


def _percent(part: float, whole: float) -> str:
    if not (math.isfinite(whole) and whole > 0):
        return f"{part:.4f} nats per example"
    return f"{100 * part / whole:.3g} %"


def _item(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  * ", subsequent_indent="    ")
