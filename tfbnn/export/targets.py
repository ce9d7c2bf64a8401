"""Targets: every kind of file by its name."""

from tfbnn.export.c_source.exporter import C
from tfbnn.export.onnx import ONNX
from tfbnn.export.saved_model import SavedModel
from tfbnn.export.shipping import AbstractTarget
from tfbnn.export.tflite import LiteRT

TARGETS: dict[str, type[AbstractTarget]] = {
    target.name: target for target in (SavedModel, LiteRT, C, ONNX)
}
"""The targets by name, which is that of the exporter too; the tests of all modes run over it."""
