"""Saved state: what a model of tfbnn keeps in its configuration, and so in files and copies.

It stands there and not in the compile configuration, which `keras.models.clone_model` gives to a
plain Keras model.
"""

import warnings
from typing import Any

import keras

import tfbnn
from tfbnn.layers.variational import mask_unbuilt_layers, variational_layers
from tfbnn.likelihoods.table import from_config as likelihood_from_config
from tfbnn.training import recipes, schedules


class SavedState:
    """How Keras saves a model of tfbnn, and makes one again."""

    # Whether it had been, when the model was saved that this one is loaded from.
    optimizer_was_built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bayesian": _saved(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = dict(config)
        state = config.pop("bayesian", None)
        model = super().from_config(config, custom_objects=custom_objects)
        if state is not None:
            restore(model, state)
        return model

    def compile_from_config(self, config: dict[str, Any]) -> None:
        objective = self.objective
        likelihoods, beta, is_open = self.likelihoods, objective.beta, objective.beta_is_open
        recipe, is_given = objective.recipe, objective.recipe_is_given
        self.compile(
            **keras.saving.deserialize_keras_object(config),
            beta=beta,
            kl_schedule=objective.kl_schedule,
            num_draws=self.num_draws,
        )
        # The optimizer, which for `compile` is one of the user's own, may be that of the recipe.
        objective.set_recipe(self, recipe, is_given)
        objective.set_beta(beta, is_open)
        for likelihood, old in zip(self.likelihoods, likelihoods, strict=False):
            likelihood.take_temperatures(old)
        # As when it was saved: Keras warns of a state that the file lacks, and of one that has no
        # place.
        if self.built and self.optimizer is not None and self.optimizer_was_built:
            self.optimizer.build(self.trainable_variables)

    def export(self, filepath: Any, format: str = "tf_saved_model", **kwargs: Any) -> Any:
        """Write a file that answers with a prediction and an uncertainty, where Keras has one.

        Args:
            filepath: Where to write.
            format: The name of an exporter of `tfbnn.export`, of which Keras calls two
                `"tf_saved_model"` and `"litert"`: with an uncertainty. Any other is Keras' own, and
                has the network at the posterior mean alone.
            **kwargs: Those of the exporter, such as `uncertainty`, or of Keras.

        Returns:
            The manifest; None of one of Keras' own.

        Warns:
            UserWarning: If the file will have no uncertainty.
        """
        name = _FORMATS.get(format, format)
        if name in tfbnn.export.TARGETS:
            return getattr(tfbnn.export, name)(self, filepath, **kwargs)
        warnings.warn(
            "A file of this format has the network at the posterior mean, without an uncertainty; "
            f"{sorted(tfbnn.export.TARGETS)} have one. Received: format={format!r}",
            stacklevel=2,
        )
        return super().export(filepath, format, **kwargs)


# What Keras calls two of the targets.
_FORMATS = {"tf_saved_model": "saved_model", "litert": "tflite"}


def _saved(model: keras.Model) -> dict[str, Any]:
    """What `restore` takes, in plain values."""
    objective = model.objective
    schedule, recipe = objective.kl_schedule, objective.recipe
    return {
        "num_examples": objective.num_examples,
        "likelihoods": [likelihood.get_config() for likelihood in model.likelihoods],
        "beta": objective.beta,
        "beta_is_open": objective.beta_is_open,
        "recipe": recipe and keras.saving.serialize_keras_object(recipe),
        "recipe_is_given": objective.recipe_is_given,
        "kl_schedule": schedule and keras.saving.serialize_keras_object(schedule),
        "num_draws": model.num_draws,
        "masked": any(layer.masked for layer in variational_layers(model)),
        "optimizer_built": bool(getattr(getattr(model, "optimizer", None), "built", False)),
    }


def restore(model: keras.Model, state: dict[str, Any]) -> None:
    """Let a new model be as one was whose state was saved, by this version or an earlier one."""
    objective = model.objective
    model.optimizer_was_built = state.get("optimizer_built", True)
    if state["masked"]:
        # A subclass makes its layers itself; that they were pruned is not in its configuration.
        mask_unbuilt_layers(model)
    if state["num_examples"] is not None:
        objective.set_num_examples(state["num_examples"], is_given=False)
    objective.set_likelihoods(model, [likelihood_from_config(c) for c in state["likelihoods"]])
    objective.set_beta(state["beta"], state.get("beta_is_open", False))
    objective.kl_schedule = schedules.get(state["kl_schedule"])
    objective.recipe = recipes.get(state.get("recipe"))
    objective.recipe_is_given = state.get("recipe_is_given", False)
    model.num_draws = state["num_draws"]
