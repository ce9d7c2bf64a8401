"""What is measured: each file builds the same networks with one library.

A contender has `prepare(case)`, which imports the library, and `Contender(case)` with `step()`,
one training step, `first_step()`, `predict(rows)`, and `describe()`. `case` is a dict: `network`,
`width`, `batch`, `estimator`, `prior`, `jit`, `precision`, `devices`, `num_samples`.
"""
