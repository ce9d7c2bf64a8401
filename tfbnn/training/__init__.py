"""Training: the ELBO, exact or tempered, from an ordinary `compile` and `fit`.

* `models`: `tfbnn.Sequential` and `tfbnn.Model`.
* `bayesian_model`: what they add to Keras; how they are compiled and trained.
* `objective`: the loss per example; the only place that knows the number of training examples.
* `data_term`: the negative log likelihood of a batch.
* `training_run`: the data of one `fit`, and what is done before its steps and after them.
* `noise_variables`: what a model keeps for a noise that it learns.
* `target_units`: where that noise starts, and a warning of targets that are far off.
* `held_out_noise`: what it is refit to on held-out rows.
* `recipes`: settings that fit together; `beta_choice`: tempering chosen by validation.
* `schedules`: KL warm-up and Blundell's minibatch weights, never defaults.
* `data`: how many training examples there are.
* `sigma_logger`, `resuming` (`training_state`): `SigmaLogger` and `ResumeTraining`.
* `diagnostics`: `tfbnn.check_elbo`.
* `plain_models`: what a plain Keras model with variational layers tells by how it is compiled.
"""
