"""Prediction: use what was learnt.

* `uncertainty`: how sure is the model? Functions of posterior draws of probabilities or of normals.
* `calibration`: is it right to be that sure? Functions of predictions and labels.
"""
