"""Number formats: how one number of a value, a buffer, a parameter or an operand is stored."""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """A number format: its name, its bytes and the NumPy type that holds it."""

    name: str
    bytes: int
    numpy: str

    def __str__(self) -> str:
        return self.name


F32 = Format("f32", 4, "f4")
F64 = Format("f64", 8, "f8")
I32 = Format("i32", 4, "i4")
I64 = Format("i64", 8, "i8")
U64 = Format("u64", 8, "u8")
