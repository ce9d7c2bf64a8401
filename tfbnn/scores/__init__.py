"""Scores: pure functions of arrays, which know no model.

* `class_uncertainty`: entropy, mutual information, votes: how sure are predicted classes?
* `class_scores`: error, NLL, Brier score and calibration of classes against labels.
* `number_uncertainty`: epistemic and aleatoric variance, quantiles: where does a real number lie?
* `number_scores`: NLL, error and coverage of real numbers against targets.
* `temperature`: the number that makes predictions of classes most likely.
* `risk_coverage`: the risk of the most certain answers.
* `diagrams`: pictures of calibration and of that risk.
"""
