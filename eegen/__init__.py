"""eegen: a compiler from a model configuration to one C file that trains and samples that model.

    import eegen

    model = eegen.Model(d_model=64)
    run = model.train(steps=2000)
    model.sample(10)

`eegen.Model` compiles a model, `eegen.load` reads a checkpoint; see eegen/model.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Model", "Run", "load"]

if TYPE_CHECKING:
    from eegen.model import Model, Run, load


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: importing eegen alone stays quick."""
    if name in __all__:
        from eegen import model

        return getattr(model, name)
    raise AttributeError(f"module 'eegen' has no attribute {name!r}")
