"""Divergences: `KL(q || p)` between the law of a weight after and before the data.

`KL(q || p) = E_q[log(q(w)) - log(p(w))]`, in nats, one number per weight, never summed here.

`kl_divergence` takes the first of three ways that exists for the prior:

1. a closed form in the table below (`Normal`, `Informative`, `Laplace`, `AutomaticRelevance`):
   exact, no noise;
2. a closed form in TFP's registry, for a `Distribution` prior;
3. Monte Carlo, one draw `w` from `q`: `-entropy(q) - log(p(w))`. The entropy of a normal is exact,
   so only the prior is sampled; the estimate and its gradient are unbiased.

It knows no layer and no estimator, so that every prior works under every estimator.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import arguments
from tfbnn.weights import noise, priors
from tfbnn.weights.abstract_prior import float32
from tfbnn.weights.polynomial import polynomial

tfd = tfp.distributions

ClosedForm = Callable[[tf.Tensor, tf.Tensor, Any], tf.Tensor]

_CLOSED_FORMS: dict[type[priors.AbstractPrior], ClosedForm] = {}


def kl_divergence(
    posterior: tfd.Normal,
    prior: priors.AbstractPrior,
    draw: Any | None = None,
    seed: Any | None = None,
) -> tf.Tensor:
    """`KL(posterior || prior)` of each weight, in nats, in the shape of `posterior.loc`.

    Args:
        posterior: `q`, a `tfp.distributions.Normal` with `loc` and `scale` of the weight's shape.
        prior: `p`.
        draw: The weights the estimator drew from `posterior`, of its shape, for a prior without a
            closed form. They must be reparameterized (`loc + scale * noise`) for the gradient to be
            right.
        seed: An integer tensor of shape `(2,)`, from which weights are drawn if `draw` is None, for
            estimators that never draw any (local reparameterization).

    Raises:
        ValueError: If `posterior` is not normal, the shape of `draw` is another, or the prior needs
            a draw and neither `draw` nor `seed` is given.

    Example:

    >>> posterior = tfd.Normal([0.0, 1.0], [1.0, 1.0])
    >>> kl_divergence(posterior, priors.Normal()).numpy().tolist()
    [0.0, 0.5]
    >>> kl_divergence(posterior, priors.Cauchy(), seed=(1, 2)).shape
    TensorShape([2])

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", eq. 2.
    """
    loc, scale = _loc_and_scale(posterior)
    closed_form = _CLOSED_FORMS.get(type(prior), _tfp_closed_form)
    kl = closed_form(loc, scale, prior)
    if kl is not None:
        # A `Distribution` with a batch shape must not enlarge the sum.
        return tf.ensure_shape(kl, loc.shape)
    return monte_carlo(scale, prior, _checked_draw(loc, scale, prior, draw, seed))


def has_closed_form(prior: priors.AbstractPrior) -> bool:
    """Whether `kl_divergence` is exact for `prior`, and needs no draw.

    Example:

    >>> [has_closed_form(priors.get(name)) for name in ("laplace", "cauchy")]
    [True, False]
    """
    if type(prior) in _CLOSED_FORMS:
        return True
    with tf.init_scope():
        return _tfp_closed_form(tf.constant(0.0), tf.constant(1.0), prior) is not None


def register_closed_form(
    prior_class: type[priors.AbstractPrior],
) -> Callable[[ClosedForm], ClosedForm]:
    """Register the decorated function as the KL divergence to priors of `prior_class`.

    The function takes `(loc, scale, prior)`: the posterior's mean and standard deviation, float32
    tensors of equal shape, and the prior. It returns nats, in that shape.

    Args:
        prior_class: A final subclass of `AbstractPrior`; its own subclasses are not covered.

    Raises:
        ValueError: If `prior_class` has a closed form already.

    Example:

    >>> from tfbnn.weights import divergences, priors
    >>> class Flat(priors.AbstractPrior):  # an improper prior: density 1 everywhere
    ...     distribution = None
    ...     def get_config(self):
    ...         return {}
    >>> @divergences.register_closed_form(Flat)
    ... def flat(loc, scale, prior):
    ...     return -divergences.normal_entropy(scale)
    """

    def register(function: ClosedForm) -> ClosedForm:
        if prior_class in _CLOSED_FORMS:
            raise ValueError(
                f"A prior class can have one closed form only. Received: {prior_class=}"
            )
        _CLOSED_FORMS[prior_class] = function
        return function

    return register


@register_closed_form(priors.Normal)
@register_closed_form(priors.Informative)
def normal_normal(loc: tf.Tensor, scale: tf.Tensor, prior: priors.Normal) -> tf.Tensor:
    """KL between two normals.

    With `r = scale / prior.scale`,
    `KL = ((loc - prior.loc) / prior.scale)**2 / 2 + (r**2 - 1) / 2 - log(r)`. The last two terms
    cancel to `(r - 1)**2` near `r = 1`, where every posterior that learnt nothing sits: there
    a polynomial stands for their difference, so the relative error stays that of float32.

    Example:

    >>> kl = normal_normal(tf.constant(0.0), tf.constant(1.0009765625), priors.Normal())
    >>> print(f"{float(kl):.5e}")  # r = 1 + 2**-10
    9.53364e-07
    """

    # Differentiating both sides of the `where` would cost more than the rest, and round worse.
    @tf.custom_gradient
    def kl(loc, scale, prior_loc, prior_scale):
        inverse = 1.0 / prior_scale
        shift, u = (loc - prior_loc) * inverse, (scale - prior_scale) * inverse

        def gradient(upstream):
            slopes = upstream * shift * inverse, upstream * u * (2 + u) / scale
            return *slopes, *_of_prior(*slopes, shift, scale, prior_loc, prior_scale)

        return 0.5 * tf.square(shift) + _scale_term(scale, prior_scale, u), gradient

    return kl(loc, scale, *map(float32, prior.values()))


@register_closed_form(priors.Laplace)
def normal_laplace(loc: tf.Tensor, scale: tf.Tensor, prior: priors.Laplace) -> tf.Tensor:
    """KL from a normal to a Laplace law.

    `KL = log(2 * prior.scale) + E[abs(w - prior.loc)] / prior.scale - entropy(q)`, where the
    expectation is the mean of a folded normal: with `d = loc - prior.loc` and `t = d / scale`,
    `E = scale * sqrt(2 / pi) * exp(-t**2 / 2) + d * erf(t / sqrt(2))`.

    Example:

    >>> round(float(normal_laplace(tf.constant(0.0), tf.constant(1.0), priors.Laplace())), 4)
    0.0721

    Reference:
        Leone et al. 1961, "The Folded Normal Distribution", Technometrics 3(4).
    """

    # By hand, because t**2 overflows for a tiny scale, and the chain rule makes that a NaN.
    @tf.custom_gradient
    def kl(loc, scale, prior_loc, prior_scale):
        inverse = 1.0 / prior_scale
        shift = loc - prior_loc
        t = shift / scale
        sign = tf.math.erf(t * math.sqrt(0.5))
        spread = math.sqrt(2 / math.pi) * tf.exp(-0.5 * tf.square(t))
        folded = scale * spread + shift * sign

        def gradient(upstream):
            slopes = upstream * sign * inverse, upstream * (spread * inverse - 1 / scale)
            return *slopes, *_of_prior(*slopes, shift * inverse, scale, prior_loc, prior_scale)

        return folded * inverse + tf.math.log(2 * prior_scale) - normal_entropy(scale), gradient

    return kl(loc, scale, *map(float32, prior.values()))


@register_closed_form(priors.AutomaticRelevance)
def normal_automatic_relevance(
    loc: tf.Tensor, scale: tf.Tensor, prior: priors.AutomaticRelevance
) -> tf.Tensor:
    """KL from a normal to the nearest zero-mean normal that the prior allows.

    `KL = (log(s**2 / scale**2) + (loc**2 + scale**2) / s**2 - 1) / 2`, where `s` is the nearest
    number to `sqrt(loc**2 + scale**2)` from the smallest to the largest scale. Where it is between
    them this is `log(1 + loc**2 / scale**2) / 2`; value and slopes have no jumps.

    Raises:
        ValueError: If a scale is `"fan_in"`: see `prior.at_fan_in`.

    Example:

    >>> prior = priors.AutomaticRelevance(smallest_scale=0.1, largest_scale=10.0)
    >>> kl = normal_automatic_relevance(tf.constant(1.0), tf.constant(1.0), prior)
    >>> round(float(kl) / math.log(2), 4)
    0.5
    """

    for name, value in zip(prior.numbers, prior.values(), strict=True):
        if isinstance(value, str):
            arguments.standard_deviation(name, value)

    # Squares of the largest weights over those of the smallest scales overflow: by hand, in terms
    # of the hypotenuse, which does not.
    @tf.custom_gradient
    def kl(loc, scale, smallest, largest):
        longest = tf.maximum(tf.maximum(tf.abs(loc), scale), smallest)
        root = longest * tf.sqrt(tf.square(loc / longest) + tf.square(scale / longest))
        prior_scale = tf.clip_by_value(root, smallest, largest)
        # The scale's own term is 0 between the two scales.
        excess = 0.5 * (tf.square(root / prior_scale) - 1.0)
        value = tf.math.log(prior_scale) - tf.math.log(scale) + excess

        def gradient(upstream):
            pull = upstream / prior_scale
            slopes = pull * (loc / prior_scale), pull * (scale / prior_scale) - upstream / scale
            # Each bound has that of the weights beyond it.
            beyond = tf.minimum(excess, 0.0), tf.maximum(excess, 0.0)
            bounds = zip(beyond, (smallest, largest), strict=True)
            return *slopes, *(_summed(-2.0 * pull * part, bound) for part, bound in bounds)

        return value, gradient

    return kl(loc, scale, *map(float32, prior.values()))


def monte_carlo(scale: tf.Tensor, prior: priors.AbstractPrior, draw: tf.Tensor) -> tf.Tensor:
    """One-draw estimate of the KL from a normal, `-entropy(q) - log(p(draw))`."""
    return -normal_entropy(scale) - prior.log_prob(draw)


def normal_entropy(scale: tf.Tensor) -> tf.Tensor:
    """Differential entropy of a normal, `log(2 * pi * e * scale**2) / 2`, in nats."""
    return tf.math.log(scale) + 0.5 * math.log(2 * math.pi * math.e)


def _loc_and_scale(posterior: tfd.Normal) -> tuple[tf.Tensor, tf.Tensor]:
    if not isinstance(posterior, tfd.Normal):
        raise ValueError(
            f"`posterior` must be a `tfp.distributions.Normal`. Received: posterior={posterior!r}"
        )
    loc, scale = float32(posterior.loc), float32(posterior.scale)
    return loc, tf.broadcast_to(scale, tf.shape(loc)) if scale.shape != loc.shape else scale


def _tfp_closed_form(
    loc: tf.Tensor, scale: tf.Tensor, prior: priors.AbstractPrior
) -> tf.Tensor | None:
    """The KL that TFP has registered for the two classes, or None."""
    if not isinstance(prior, priors.Distribution):
        return None
    try:
        return tfd.kl_divergence(tfd.Normal(loc, scale), prior.distribution())
    except NotImplementedError:
        return None


def _checked_draw(
    loc: tf.Tensor,
    scale: tf.Tensor,
    prior: priors.AbstractPrior,
    draw: Any | None,
    seed: Any | None,
) -> tf.Tensor:
    if draw is not None:
        draw = float32(draw)
        if not draw.shape.is_compatible_with(loc.shape):
            raise ValueError(
                f"`draw` must have the shape of the posterior, {loc.shape}. "
                f"Received: draw.shape={draw.shape}"
            )
        return draw
    if seed is None:
        raise ValueError(
            f"The KL divergence to {prior!r} has no closed form: pass the weights drawn by the "
            f"estimator as `draw`, or a `seed`. Received: draw={draw}, seed={seed}"
        )
    return loc + scale * noise.standard_normal(tf.shape(loc), seed)


def _of_prior(
    of_loc: tf.Tensor,
    of_scale: tf.Tensor,
    shift: tf.Tensor,
    scale: tf.Tensor,
    prior_loc: tf.Tensor,
    prior_scale: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Slopes in the location and the scale of a prior, from those in the posterior's.

    A KL stays as it is if both laws are moved, or grow, by one factor; `shift` is
    `(loc - prior_loc) / prior_scale`.
    """
    of_prior_scale = -shift * of_loc - scale / prior_scale * of_scale
    return _summed(-of_loc, prior_loc), _summed(of_prior_scale, prior_scale)


def _summed(slopes: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """The slope in a number that all weights have in common."""
    return slopes if number.shape.rank else tf.reduce_sum(slopes)


# (u**2 / 2 + u - log(1 + u)) / u**2 on [-0.3, 0.4], to 1e-8.
_NEAR = np.polynomial.Chebyshev.interpolate(
    lambda u: (u**2 / 2 + u - np.log1p(u)) / u**2, 12, domain=[-0.3, 0.4]
).convert(kind=np.polynomial.Polynomial)


def _scale_term(scale: tf.Tensor, prior_scale: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """`(r**2 - 1) / 2 - log(r)`, `r = scale / prior_scale = 1 + u`, accurate also near `r = 1`."""
    far = u * (0.5 * u + 1.0) - (tf.math.log(scale) - tf.math.log(prior_scale))
    near = tf.square(u) * polynomial(_NEAR.coef, u)
    return tf.where((u > -0.3) & (u < 0.4), near, far)
