"""Decisions: what to do with an uncertainty, with a guarantee.

* `conformal`: `tfbnn.conformal`, sets and intervals that hold the truth as often as is asked.
* `selective`: `tfbnn.selective`, the uncertainty up to which predictions may be acted on.
* `quantiles` and `bounds`: the mathematics of the two, functions of arrays.
* `answers`: labelled answers, of a posterior or of a file, that thresholds are computed from.
* `networks`: the same drawn networks at each call, and whether they are still the same.

The rules themselves, which run on devices as well, are in `tfbnn/lite_rules.py`; `tfbnn.decide`
(`tfbnn/export/deciding.py`) computes their thresholds for a file.
"""
