"""bayesian-torch on the CPU build of PyTorch. It has no local reparameterization and no mixture."""

from typing import Any

import networks
import numpy as np
import torch
from bayesian_torch import layers as bayesian


class Contender:
    """The network in bayesian-torch, with the KL summed and divided by the examples."""

    def __init__(self, case: dict[str, Any]):
        self.case = case
        torch.manual_seed(0)
        shape = networks.input_shape(case["network"])
        self.layers = torch.nn.ModuleList(
            self._layer(one) for one in networks.layers(case["network"], case["width"])
        )
        self.optimizer = torch.optim.Adam(self.layers.parameters(), 1e-3)
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(case["batch"], *shape)).astype("float32")
        self.rows = self._channels_first(rows)
        self.labels = torch.tensor(rng.integers(0, networks.CLASSES, case["batch"]))

    def step(self) -> None:
        self.optimizer.zero_grad()
        outputs, kl = self._forward(self.rows)
        loss = torch.nn.functional.cross_entropy(outputs, self.labels) + kl / networks.EXAMPLES
        loss.backward()
        self.optimizer.step()
        loss.item()

    def predict(self, rows: np.ndarray) -> None:
        """`num_samples` passes, each with weights of its own, to the mean probabilities."""
        size = self.case["batch"]
        with torch.no_grad():
            for start in range(0, len(rows), size):
                batch = self._channels_first(rows[start : start + size])
                total = 0.0
                for _ in range(self.case["num_samples"]):
                    total += torch.softmax(self._forward(batch)[0], -1)
                (total / self.case["num_samples"]).numpy()

    def describe(self) -> dict[str, Any]:
        return {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}

    def _forward(self, x: Any) -> tuple[Any, Any]:
        total = 0.0
        specification = networks.layers(self.case["network"], self.case["width"])
        for layer, one in zip(self.layers, specification, strict=True):
            if isinstance(one, networks.Dense):
                x = x.flatten(1)
            x, kl = layer(x)
            # The mean over the weights, where the ELBO has the sum; the work is the same.
            weights = layer.mu_kernel if hasattr(layer, "mu_kernel") else layer.mu_weight
            total = total + kl * weights.numel()
            if isinstance(one, networks.Convolution):
                x = torch.nn.functional.max_pool2d(torch.relu(x), 2)
            elif not one.last:
                x = torch.relu(x)
        return x, total

    def _layer(self, one: Any) -> Any:
        suffix = {"reparameterization": "Reparameterization", "flipout": "Flipout"}
        suffix = suffix[self.case["estimator"]]
        if isinstance(one, networks.Dense):
            return getattr(bayesian, "Linear" + suffix)(one.inputs, one.units)
        make = getattr(bayesian, "Conv2d" + suffix)
        return make(one.channels, one.filters, one.kernel, padding=one.kernel // 2)

    def _channels_first(self, rows: np.ndarray) -> Any:
        if rows.ndim == 4:
            rows = rows.transpose(0, 3, 1, 2)
        return torch.tensor(np.ascontiguousarray(rows))
