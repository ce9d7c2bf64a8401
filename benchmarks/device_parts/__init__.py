"""The parts of `benchmarks/device.py`: networks, inputs, files and their scores."""
