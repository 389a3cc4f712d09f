"""Trains one network on several devices at once: each gets a part of every batch (``tf.distribute``)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pneumo_edge._util import extras
from pneumo_edge.errors import TrainingError
from pneumo_edge.training.recipes import Phase

#: More devices than this in one machine are a slip of the pen.
MOST = 64


def strategy(devices: int) -> Any:
    """The ``tf.distribute.MirroredStrategy`` over so many GPUs, or processors of TensorFlow where there is no GPU.

    Such processors share the cores of the machine: training on them shows the result, and is not faster.

    Args:
        devices: How many, at least 2.

    Raises:
        TrainingError: There are fewer GPUs, or TensorFlow was started with other devices in this process.
    """
    tf = extras.need("tensorflow", "train")
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) >= devices:
        return tf.distribute.MirroredStrategy([f"GPU:{number}" for number in range(devices)])
    if gpus:
        raise TrainingError(
            f"this machine has {len(gpus)} GPU, and {devices} devices were given",
            "as many devices as GPUs, or fewer",
            "Give --devices that number",
        )
    (processor,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(processor) or ()) != devices:
        try:
            tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * devices)
        except RuntimeError as error:
            raise TrainingError(
                f"TensorFlow was started in this process before it was to use {devices} devices",
                "a process in which it was not started",
                "Train in a new process",
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)])


def scaled(phase: Phase, devices: int) -> Phase:
    """A phase for several devices, of which each takes the batch of one: the square-root rule for Adam.

    With k devices a batch has k times the images, and an epoch a k-th of the steps. The learning rate becomes its
    sqrt(k)-fold, and each decay of AdamW's averages k times faster (Malladi et al., NeurIPS 2022). Weight decay, which
    acts once in a step with the learning rate, becomes its sqrt(k)-fold, so that an epoch decays weights as before. The
    moving average of the weights has the k-th power of its momentum (Busbridge et al., NeurIPS 2023).
    """
    root = math.sqrt(devices)
    return replace(
        phase,
        batch_size=phase.batch_size * devices,
        learning_rate=phase.learning_rate * root,
        weight_decay=phase.weight_decay * root,
        beta_1=max(0.0, 1 - devices * (1 - phase.beta_1)),
        beta_2=max(0.0, 1 - devices * (1 - phase.beta_2)),
        ema=None if phase.ema is None else phase.ema**devices,
    )
