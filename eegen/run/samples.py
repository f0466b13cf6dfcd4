"""`python -m eegen.run.samples` writes the committed samples of generated C again."""

from __future__ import annotations

from pathlib import Path

from eegen.models.config import ModelConfig
from eegen.plan.build_config import BuildConfig
from eegen.plan.planner import make_plan
from eegen.run.sources import library_source

SAMPLES = (
    BuildConfig(ModelConfig(d_model=16), "neon"),
    BuildConfig(ModelConfig(d_model=64), "sme2"),
    BuildConfig(ModelConfig(d_model=64), "avx512"),
)
FOLDER = Path(__file__).resolve().parents[2] / "generated"


def source(sample: BuildConfig) -> str:
    return library_source(make_plan(sample))


if __name__ == "__main__":
    for sample in SAMPLES:
        path = FOLDER / f"{sample.name}.c"
        path.write_text(source(sample), encoding="utf-8")
        print(path)
