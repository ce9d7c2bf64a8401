"""Prediction: use a posterior.

* `predictive`: `tfbnn.predict`, networks drawn from the posterior and averaged.
* `points`: fixed outputs at which a likelihood is averaged on a device.
* `summaries`: what it returns.
* `uncertainty`: entropy, mutual information, epistemic and aleatoric parts, quantiles.
* `evaluation`: `tfbnn.evaluate` and `tfbnn.calibrate`.
* `temperature`: the number that makes predictions most likely, and whether it is to be believed.
* `labelled`: what networks say of rows whose answer is known, and how much each label counts.
* `calibration`, `diagrams`, `regression_scores`: scores of mean predictions, and pictures of them.
"""
