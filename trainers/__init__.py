"""Trainers: runnable programs on top of tfbnn, one idea each.

    python -m trainers.classification                       # the whole road on digits, no network
    python -m trainers.seeds --dataset mnist --seeds 0 1 2  # the same for several seeds
    python -m trainers.search                               # hyperparameters, 20 trials
    python -m trainers.compare                              # every inference route, three seeds

`--help` lists the flags and, for the chosen data set, their defaults. What they share:

* `settings`, `search_settings`: a frozen dataclass, whose fields are the flags.
* `data`: the data sets and their splits.
* `networks`: from settings to a model, and its training.
* `shipping`: exported files, and what they measure.
* `runs`: the folder of one run, which is complete or not there.
* `report`: the table and the pictures.
* `comparison`: the parts of `trainers.compare`.
* `command`: from the command line to `main`, errors in one line.
"""
