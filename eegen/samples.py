"""`python -m eegen.samples` writes anew the generated files that are kept in git, to read and to review changes by."""

from __future__ import annotations

from pathlib import Path

from eegen.compile import library_source
from eegen.config import BuildConfig, ModelConfig
from eegen.plan import make_plan

SAMPLES = (
    BuildConfig(ModelConfig(d_model=16), "neon"),
    BuildConfig(ModelConfig(d_model=64), "sme2"),
    BuildConfig(ModelConfig(d_model=64), "avx512"),
)
FOLDER = Path(__file__).resolve().parent.parent / "generated"


def source(sample: BuildConfig) -> str:
    return library_source(make_plan(sample))


if __name__ == "__main__":
    for sample in SAMPLES:
        path = FOLDER / f"{sample.name}.c"
        path.write_text(source(sample), encoding="utf-8")
        print(path)
