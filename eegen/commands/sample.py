"""`eegen sample`: new documents from a checkpoint."""

from __future__ import annotations

from dataclasses import asdict

from eegen.commands.shared.options import TARGET, CheckpointFile, Json, command, panel
from eegen.commands.shared.printing import print_json
from eegen.commands.shared.values import target_options
from eegen.defaults import TRAIN_DEFAULTS
from eegen.options import Given, Option


@command(
    panel(
        Option("n", int, 20, "Number of documents.", flags=("-n",)),
        Option(
            "temperature",
            float,
            0.5,
            "Divisor of the logits: below 1 favors likely characters, above 1 makes all more equally likely.",
        ),
        Option("prefix", str, help="Text that each document begins with.", metavar="TEXT"),
        Option("seed", int, TRAIN_DEFAULTS["seed"], "Seed of the random draws."),
    ),
    TARGET,
    examples=("eegen sample names.safetensors -n 5", "eegen sample names.safetensors --prefix ma --temperature 0.8"),
)
def sample(sampling: Given, target: Given, checkpoint: CheckpointFile, json: Json = False) -> None:
    """Draw new documents from a checkpoint."""
    from eegen.model import load
    from eegen.run.inference import Sampling

    chosen = Sampling(**sampling)
    samples = load(checkpoint, **target_options(target)).sample(**asdict(chosen))
    if json:
        return print_json({"samples": samples, **asdict(chosen), "checkpoint": str(checkpoint)})
    print("\n".join(samples))
