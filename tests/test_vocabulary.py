"""Every word of every target's vocabulary against its meaning in NumPy: one program a target runs them all."""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from machines import EVERY, Machine, missing

from eegen.emit.source import environment
from eegen.errors import EegenError
from eegen.targets import TARGETS, Target
from eegen.targets.vocabulary import DOMAINS, GROUPS, Word, words
from eegen.toolchain.cached_compilation import build
from eegen.toolchain.compiler_flags import cross_libc, is_foreign
from eegen.toolchain.compiler_search import find_compiler
from eegen.toolchain.emulators import emulator

CASES = 64
AREA = 512  # floats of memory behind a pointer
TINY = 1.5e-45  # the smallest subnormal: rounding below the normal numbers


@dataclass(frozen=True)
class Call:
    """A word with its literal operands."""

    word: Word
    literals: tuple[tuple[str, float], ...]
    target: Target

    def lanes(self, type_: str) -> int:
        return {"zf": self.target.vector_bits // 32, "float4": 4, "float": 1, "int64_t": 1}.get(
            type_, self.target.lanes * int(type_.strip("vf") or 1) if type_.startswith("v") else AREA
        )

    @property
    def variables(self) -> dict[str, str]:
        """The operands that are read from memory."""
        literal = dict(self.literals)
        return {name: type_ for name, type_ in self.word.operands.items() if name not in literal and name != "q"}

    @property
    def size_in(self) -> int:
        return sum(map(self.lanes, self.variables.values())) or 1

    @property
    def size_out(self) -> int:
        return AREA if "q" in self.word.operands else self.lanes(self.word.returns)

    @property
    def vector(self) -> int:
        """L: the lanes of the vectors that the prototype names."""
        return next((self.lanes(t) for t in re.findall(r"v\d?f|zf", self.word.c)), self.target.lanes)

    def c(self, number: int) -> str:
        """A function that reads the operands, calls the word and writes the result."""
        lines, at, text = [], 0, {name: str(x) for name, x in self.literals}
        for name, type_ in self.variables.items():
            if type_ == "zf":
                lines.append(f"const zf {name} = svld1_f32(svptrue_b32(), in + {at});")
            elif "*" in type_:
                lines.append(f"{type_}{name} = in + {at};")
            elif type_ == "float":
                lines.append(f"const float {name} = in[{at}];")
            else:
                lines.append(f"{type_} {name}; memcpy(&{name}, in + {at}, sizeof {name});")
            at += self.lanes(type_)
        for name, type_ in self.word.operands.items():
            if name in text and type_ == "float":
                text[name] += "f"
        operands = ", ".join("out" if name == "q" else text.get(name, name) for name in self.word.operands)
        returns = self.word.returns
        if self.word.statement:
            statement = re.sub(r"\bn\b", text.get("n", "n"), self.word.statement)
            lines += [f"{returns} result;", f"{statement};"]
        elif returns == "void":
            lines.append(f"{self.word.name}({operands});")
        else:
            lines.append(f"const {returns} result = {self.word.name}({operands});")
        if returns == "zf":
            lines.append("svst1_f32(svptrue_b32(), out, result);")
        elif returns == "int64_t":
            lines.append("out[0] = (float)result;")
        elif returns == "float":
            lines.append("out[0] = result;")
        elif returns != "void":
            lines.append("memcpy(out, &result, sizeof result);")
        head = f"static void run{number}(const float *in, float *out)"
        if self.word.name.startswith("z_"):
            head = f"STREAMING {head}"
            lines.insert(0, "const svbool_t pg = svptrue_b32();")
        return f"{head}\n{{\n    (void)in;\n    " + "\n    ".join(lines) + "\n}\n"

    def inputs(self) -> np.ndarray:
        """[CASES][size_in]: random numbers of each operand's domain, and special ones in random places."""
        rng = np.random.default_rng(zlib.crc32(repr((self.word.c, self.literals)).encode()))
        domains = dict(self.word.inputs)
        parts = [
            numbers(rng, domains.get(name, "finite"), (CASES, self.lanes(type_)))
            for name, type_ in self.variables.items()
        ]
        return np.concatenate([*parts, np.zeros((CASES, 0 if parts else 1))], 1, dtype=np.float32)

    def expected(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(result, error allowed), of one case."""
        names: dict[str, Any] = {"np": np, "L": self.vector, "abs": np.abs, **dict(self.literals)}
        names["I"], names["J"] = np.arange(self.vector)[:, None], np.arange(self.vector)[None, :]
        at = 0
        for name, type_ in self.variables.items():
            n = self.lanes(type_)
            names[name] = row[at : at + n].astype(np.float64) if type_ != "float" else np.float64(row[at])
            at += n
        with np.errstate(all="ignore"):
            if "q" in self.word.operands:
                names["q"] = np.zeros(AREA)
                exec(self.word.numpy, names)
                result = names["q"]
            else:
                result = np.broadcast_to(eval(self.word.numpy, names), self.size_out)
            of = np.abs(np.float64(eval(self.word.of, names)) if self.word.of else result)
            return result.astype(np.float32), self.word.within * of + (TINY if self.word.within else 0)


def numbers(rng: np.random.Generator, domain: str, shape: tuple[int, int]) -> np.ndarray:
    """Numbers of a domain of the manifest."""
    assert domain in DOMAINS
    sign = rng.choice([-1.0, 1.0], shape)
    spread = sign * 10.0 ** rng.uniform(-3, 3, shape)
    x, special = {
        "finite": (spread, [0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, 1e-30]),
        "moderate": (spread, [0.0, -0.0, 1e-15, -1e15, 1e15]),
        "ordered": (spread, [0.0, -0.0, 1e-40, np.inf, -np.inf]),
        "any": (spread, [0.0, -0.0, 1e30, np.inf, -np.inf, np.nan]),
        "normal": (10.0 ** rng.uniform(-2, 2, shape), [1.0]),
        "positive": (np.abs(spread), [0.0, 1e-30, 1e30]),
        "square": (10.0 ** rng.uniform(-12, 4, shape), [0.0]),
        "epsilon": (np.full(shape, 1e-8), [1e-8]),
        "exponent": (rng.uniform(-87.3, 88, shape), [0.0, -0.0, 1e-8, -1e-8, -88.5, -100.0, -1e30, -np.inf, np.nan]),
        "biased": (12582912.0 + 127 + rng.integers(-126, 128, shape), [12582912.0 + 1, 12582912.0 + 127]),
    }[domain]
    chosen = rng.random(shape) < 0.15
    return np.where(chosen, rng.choice(special, shape), x)


def calls(target: Target) -> Iterator[Call]:
    for _, word in words(target):
        names = [name for name, _ in word.literals]
        for values in itertools.product(*(values for _, values in word.literals)):
            yield Call(word, tuple(zip(names, values, strict=True)), target)


def target_of(machine: Machine) -> Target:
    target = TARGETS[machine.target]
    return target.with_vector_bits(machine.svl_bits) if machine.svl_bits else target


def vocabulary_of(target: Target) -> str:
    names = [target.vocabulary, *([f"attention_{target.quads_vocabulary}"] if target.quads_vocabulary else [])]
    return "\n".join(environment().get_template(f"vocabulary/{name}.c.j2").render(target=target) for name in names)


PROGRAM = """
#include <stdio.h>
#include <string.h>
#pragma GCC diagnostic ignored "-Wunused-function"
{vocabulary}
{functions}
static const struct {{ void (*run)(const float *in, float *out); int in, out; }} all[] = {{
{table}
}};
int main(void)
{{
    static float in[8 * {area}], out[2 * {area}];
    for (size_t w = 0; w < sizeof all / sizeof *all; w++)
        for (int i = 0; i < {cases}; i++) {{
            if (fread(in, sizeof(float), (size_t)all[w].in, stdin) != (size_t)all[w].in) return 1;
            memset(out, 0, sizeof out);
            all[w].run(in, out);
            fwrite(out, sizeof(float), (size_t)all[w].out, stdout);
        }}
    return 0;
}}
"""


def results(machine: Machine) -> dict[Call, np.ndarray]:
    """What every word of the target returned: [CASES][size_out]."""
    machine.need()
    found = run_all(machine)
    assert isinstance(found, dict), found
    return found


@functools.cache
def run_all(machine: Machine) -> dict[Call, np.ndarray] | str:
    """The results, or why there are none: one compilation a machine, whether it succeeds or not."""
    target, compiler = target_of(machine), find_compiler(None)
    if is_foreign(target) and compiler.kind == "clang" and not cross_libc(target.machine):
        missing(f"no C library for {target.machine}")
    every = list(calls(target))
    source = PROGRAM.format(
        vocabulary=vocabulary_of(target),
        functions="\n".join(call.c(i) for i, call in enumerate(every)),
        table="\n".join(f"    {{ run{i}, {call.size_in}, {call.size_out} }}," for i, call in enumerate(every)),
        area=AREA,
        cases=CASES,
    )
    try:
        program = build(source, "", target, compiler, "program", f"vocabulary-{machine}").path
    except EegenError as error:
        return str(error)
    given = b"".join(call.inputs().tobytes() for call in every)
    done = subprocess.run([*emulator(target), str(program)], input=given, capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.float32)
    ends = np.cumsum([CASES * call.size_out for call in every])
    return {
        call: part.reshape(CASES, call.size_out) for call, part in zip(every, np.split(found, ends[:-1]), strict=True)
    }


WORDS = [
    pytest.param(machine, word.name, id=f"{machine}-{word.name}")
    for machine in EVERY
    for _, word in words(target_of(machine))
]


@pytest.mark.parametrize(("machine", "name"), WORDS)
def test_a_word_means_what_the_manifest_says(machine: Machine, name: str) -> None:
    for call, found in results(machine).items():
        if call.word.name != name:
            continue
        for row, got in zip(call.inputs(), found, strict=True):
            want, allowed = call.expected(row)
            with np.errstate(invalid="ignore"):
                same = (got == want) | (np.isnan(got) & np.isnan(want)) | (np.abs(got - want.astype(float)) <= allowed)
            at = int(np.argmin(same))
            assert same.all(), (
                f"{call.word.c} of {machine} is {call.word.numpy}: at {at}{dict(call.literals) or ''} "
                f"{got[at]!r} is not {want[at]!r} for {row[: 8 * call.vector]}"
            )


@pytest.mark.parametrize("machine", EVERY, ids=str)
def test_the_template_and_the_manifest_have_the_same_words(machine: Machine) -> None:
    target = target_of(machine)
    text = vocabulary_of(target)
    defined = set(re.findall(r"^(?:static inline|Z|#define)\s[^({;=\n]*?(\w+)\(", text, re.MULTILINE))
    listed = {word.name for _, word in words(target)}
    assert not listed - defined, f"{target.name} lacks words of eegen/targets/vocabulary.py"
    vectors = {name for name in defined if re.match(r"(v\d?|z)_", name)}
    assert not vectors - listed, f"eegen/targets/vocabulary.py does not list words of {target.name}"


def test_every_group_is_some_targets() -> None:
    for name, group in GROUPS.items():
        assert any(group.needed(target) for target in TARGETS.values()), name
