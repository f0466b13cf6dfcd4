"""Shape rules that several ops share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eegen.language.graph import Domain, Shape, Value


def same(inputs: Sequence[Value], attrs: Mapping[str, Any], domain: Domain) -> Shape:
    """That of the first operand that is not a parameter."""
    rows = [v for v in inputs if v.domain != "param"]
    return rows[0].shape, domain


def like_parameter(inputs: Sequence[Value], attrs: Mapping[str, Any], domain: Domain) -> Shape:
    """That of the parameter whose gradient it is."""
    return attrs["like"].shape, "param"


def like_second(inputs: Sequence[Value], attrs: Mapping[str, Any], domain: Domain) -> Shape:
    return inputs[1].shape, inputs[1].domain
