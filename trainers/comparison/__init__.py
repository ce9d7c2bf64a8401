"""Parts of `trainers.compare`: every inference route on the same data.

* `settings`: what can be chosen, and defaults for each data set.
* `tasks`: data with inputs that no network has seen.
* `networks`: the network of a data set, as plain Keras layers.
* `routes`: the table of routes, each a function `(build, task, settings) -> posterior`.
* `scores`: what a posterior is worth.
* `measuring`: one run in a process of its own, and what it took.
* `page`: the table, as Markdown.
* `pictures`: the scores, and answers over the plane.
"""
