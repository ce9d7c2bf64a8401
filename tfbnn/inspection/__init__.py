"""Inspection: where does the uncertainty of a network sit?

* `layer_uncertainty`: `tfbnn.layer_uncertainty`, which layers are unsure of what.
* `layer_record`: what is known of one layer, also by unit and by input position.
* `variance_shares`: how much of the predictive variance each layer makes, drawn alone.
* `layer_pictures`, `network_picture`: the same to be looked at.
"""
