"""What a process imports before it is forked. It uses none of it: TensorFlow has no threads yet."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Cases are small; a case has one thread, and a run as many jobs as it is told.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import warnings

import h5py as h5py
import keras as keras
import scipy.stats as scipy_stats  # noqa: F401
import tensorflow as tf

import tfbnn
from tfbnn import callbacks as callbacks
from tfbnn import export as export
from tfbnn import layers as layers
from tfbnn import lite as lite
from tfbnn import search as search
from tfbnn.pruning import masks as masks

for _name in tfbnn.__all__:
    getattr(tfbnn, _name)
# Those of libraries; what a case expects of a warning it says itself.
warnings.simplefilter("ignore")
tf.get_logger().setLevel("ERROR")
