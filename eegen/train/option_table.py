"""The options of a training run, as the command line and recipes have them; `TrainOptions` checks their values."""

from __future__ import annotations

from pathlib import Path

from eegen.defaults import ORDERS, TRAIN_DEFAULTS
from eegen.language.optimizers import OPTIMIZERS, How
from eegen.options import Group, Option, group
from eegen.train.schedules import SCHEDULES

RATES = ", ".join(f"{optimizer.lr:g} {optimizer.name}" for optimizer in OPTIMIZERS.values())


def users(number: str) -> str:
    """The optimizers that have this number."""
    return ", ".join(name for name, optimizer in OPTIMIZERS.items() if number in optimizer.options)


DATA = Option(
    "data", Path, help="Text file with one document a line.", default_text="the bundled names", metavar="FILE"
)
SEED = Option("seed", int, TRAIN_DEFAULTS["seed"], "Seed of all random numbers: weights, batches, split.")

TRAIN: Group = group(
    [
        DATA,
        Option(
            "steps", int, help="Steps to train.", default_text=f"{TRAIN_DEFAULTS['steps']}, or as many as --time allows"
        ),
        Option(
            "time", float, help="Seconds to train; the learning-rate schedule then follows time.", metavar="SECONDS"
        ),
        Option(
            "val",
            float,
            help="Fraction of the documents to hold out; their loss is measured at the end.",
            metavar="FRACTION",
        ),
        Option("batch", int, TRAIN_DEFAULTS["batch"], "Documents in a batch."),
        Option("lr", float, help="Learning rate.", default_text=RATES),
        Option("optimizer", str, "adam", f"Optimizer: {', '.join(OPTIMIZERS)}.", choices=tuple(OPTIMIZERS)),
        Option("schedule", str, "linear", f"Learning-rate schedule: {', '.join(SCHEDULES)}.", choices=tuple(SCHEDULES)),
        Option(
            "warmup", float, help="Length of the linear warmup: steps, or below 1 a fraction of the run.", metavar="N"
        ),
        Option("beta1", float, How.beta1, f"Decay of the mean of gradients ({users('beta1')})."),
        Option("beta2", float, How.beta2, f"Decay of the mean of squared gradients ({users('beta2')})."),
        Option("momentum", float, How.momentum, f"Momentum ({users('momentum')})."),
        Option(
            "weight_decay",
            float,
            How.weight_decay,
            f"Decoupled decay: a step subtracts lr x this x weight ({users('weight_decay')}).",
            default_text="0",
        ),
        Option("clip", float, help="Clip the norm of the whole gradient to this.", default_text="no clipping"),
        SEED,
        Option(
            "order", str, TRAIN_DEFAULTS["order"], f"Order of the documents: {' or '.join(ORDERS)}.", choices=ORDERS
        ),
        Option("until_loss", float, help="Stop once the mean loss of the last 100 steps is this low."),
        Option("threads", int, 1, "Threads that share the work of a step."),
        Option("no_sharing", bool, help="Compute equal prefixes separately instead of sharing rows; for comparison."),
    ]
)
