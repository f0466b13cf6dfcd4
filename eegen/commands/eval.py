"""`eegen eval`: the exact loss of a checkpoint."""

from __future__ import annotations

from eegen.commands.shared.options import TARGET, CheckpointFile, Json, command, panel
from eegen.commands.shared.printing import format_count, print_json, print_text
from eegen.commands.shared.values import target_options
from eegen.options import Given
from eegen.train.option_table import DATA


@command(
    panel(DATA),
    TARGET,
    examples=("eegen eval names.safetensors", "eegen eval names.safetensors --data other.txt --json"),
)
def eval(general: Given, target: Given, checkpoint: CheckpointFile, json: Json = False) -> None:
    """Compute the exact loss of a checkpoint over every document of its own data or of --data."""
    from eegen.model import load

    model = load(checkpoint, data=general.get("data"), **target_options(target))
    loss = model.evaluate()
    if json:
        return print_json({"loss": loss, "documents": len(model.documents), "checkpoint": str(checkpoint)})
    print_text(f"loss {loss:.6f} over {format_count(len(model.documents), 'document')}")
