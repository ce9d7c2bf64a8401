"""Prediction: use a posterior.

* `sampling`: what networks drawn from the posterior say; `predictive`: `tfbnn.predict`, their mean.
* `points`: fixed outputs at which a likelihood is averaged on a device.
* `evaluation`: `tfbnn.evaluate`; `calibration`: `tfbnn.calibrate`.
* `labelled`: what networks say of rows whose answer is known, and how much each label counts.
"""
