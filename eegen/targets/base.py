"""What a target is: one instruction set, with the machine model that chooses its register tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple

from eegen.targets.cpuid import Feature
from eegen.targets.tiles import Choice, Panel, Tile, cover, falling_heights, promising

ROW_GAIN = 0.2
"""What a further row saves a gradient's tile (measured): the packed copy is written in larger pieces."""


class SystemFeature(NamedTuple):
    """How a program finds out from the system whether the processor has the instruction set."""

    name: str
    hwcap: str
    """C expression, on Linux."""
    sysctl: str = ""
    """Key, on a Mac; "" where no Mac has it."""


@dataclass(frozen=True)
class Target:
    """One instruction set: everything about it that the rest of the compiler asks for.

    This class has the machine model of an out-of-order core with loads as operands of FMAs: `fma_latency` cycles for a
    chain of FMAs, `fma_ports` FMAs and `load_ports` loads a cycle. A target with another model overrides the
    methods below "machine model".
    """

    name: str
    vocabulary: str
    """Template of the vector words: templates/vocabulary/<vocabulary>.c.j2."""
    lanes: int
    """Floats in a vector."""
    registers: int
    vector_lengths: tuple[int, ...] = ()
    """The vector lengths that the code can be built for, in bits; empty where there is one."""
    vectors_name: str = "vectors"
    fused: bool = True
    """v_fma rounds once."""

    # compiling and running
    flags: tuple[str, ...] = ()
    """clang's flags; the toolchain derives zig's."""
    elf_flags: tuple[str, ...] = ()
    """Further flags for this machine where the output is ELF (not on a Mac)."""
    triple: str | None = None
    machine: str = "any"
    """The processor family, as `platform.machine` names it on Linux."""
    needs: tuple[str, ...] = ()
    """CPU features, as /proc/cpuinfo names them."""
    clang: int = 0
    """The first major version of clang that compiles the vocabulary, and Apple's."""
    apple_clang: int = 0
    emulated_cpu: str | None = None
    """The -cpu argument of QEMU; None where QEMU cannot emulate the instruction set."""
    feature: SystemFeature | None = None
    """What a program asks for before it runs; None where every processor of the family has it, or CPUID says."""
    systems: tuple[tuple[str, str], ...] = (("on Linux and on a Mac", ""),)
    """(where, further flags) of the systems on which a program is compiled for the same machine."""
    debian_packages: tuple[str, ...] = ()
    """What links programs for this machine on another one, under Debian."""
    assembly: tuple[tuple[str, str], ...] = ()
    """Kinds of instructions and the pattern of each; the first that matches counts. A line is "mnemonic operands"."""

    # templates and what they may use
    product_template: str = "kernels/product.c.j2"
    outer_template: str = "kernels/outer.c.j2"
    quads_vocabulary: str = ""
    """Template of the words for four keys at once: templates/vocabulary/attention_<...>.c.j2; "" if there is none."""
    product_words: str = "v_"
    """Prefix of the words in which a product's epilogue is written."""
    lane_operand: bool = False
    """v_fma_lane: an FMA takes one lane of a vector as its scalar."""
    update_vectors: int = 1
    """Neighbouring vectors that the optimizer updates at once, with the words v2_ to v4_."""
    transposes_in_product: bool = False
    """v_transpose: a product transposes panels of a matrix on its way; elsewhere the optimizer keeps a packed copy."""
    pairs_scalars: bool = False
    """v_set_pair: where a row of C is one vector, scalars of A are loaded two at once (loads limit that product)."""
    exchanges_sums: bool = True
    """Threads may exchange sums of a gradient's rows: its kernel can start at any row of A and B."""

    # sizes
    inner_multiple: int = 1
    """The inner size of a product is rounded up to a multiple of this."""
    slack_rows: int = 16
    """Rows past the last that a kernel may read."""
    score_vectors: int = 4
    """Score vectors that attention computes at once."""

    # machine model
    rows_multiple: int = 1
    """Rows of a gradient's tile are a multiple of this."""
    outer_unroll: int = 2
    fma_latency: int = 4
    fma_ports: int = 2
    load_ports: int = 2
    measures_tiles: bool = True
    """Whether tiles may be chosen by measurement (`eegen tune`)."""
    body_fmas: int = 128
    """FMAs of an unrolled loop body, at most."""

    @property
    def cpuid(self) -> tuple[Feature, ...]:
        """What a program asks CPUID for before it runs; empty where the processor has no CPUID."""
        return ()

    # --- vector length

    @property
    def vector_bits(self) -> int:
        """The vector length that the code is built for."""
        return 32 * self.lanes

    @property
    def machine_bits(self) -> str:
        """C expression for the length of this machine's vectors; "" where the instruction set has one length."""
        return ""

    def with_vector_bits(self, bits: int) -> Target:
        """This target for vectors of that length, 0 for its own; itself where the length is fixed."""
        return self

    # --- tiles

    def tile(self, vectors: int, k: int) -> Tile:
        """The tile for C = A·B with `vectors` registers across a row of C and inner size `k`."""
        panels = cover(vectors, range(1, 13), self.product_cost)
        panels = tuple(replace(panel, heights=falling_heights(panel.heights[0])) for panel in panels)
        unroll = 4
        longest = self.unrollable_steps(k)
        while 2 * unroll <= longest and 2 * unroll * panels[0].heights[0] * panels[0].vectors <= self.body_fmas:
            unroll *= 2
        return Tile(panels[0].heights[0], panels[0].vectors, min(unroll, k), panels[0].heights, panels)

    def outer_tile(self, m: int, vectors: int, multiple: int = 2) -> Tile:
        """The tile for G = Aᵀ·B with `m` rows and `vectors` registers across a row of G.

        All panels have one height, a multiple of `multiple` and of `rows_multiple`.
        """
        step = max(multiple, self.rows_multiple)
        covers = [cover(vectors, [rows], self.outer_cost) for rows in range(step, 17, step) if rows < m + step]

        def total(panels: tuple[Panel, ...]) -> float:
            full, short = divmod(m, panels[0].heights[0])
            return sum(
                panel.count * panel.vectors * rows * self.outer_cost(rows, panel.vectors)
                for panel in panels
                for rows in [panels[0].heights[0]] * full + [short] * (short > 0)
            )

        panels = min(covers, key=total)
        return Tile(panels[0].heights[0], panels[0].vectors, self.outer_unroll, panels[0].heights, panels)

    def tile_of(self, vectors: int, choice: Choice) -> Tile:
        """The tile for a product as chosen; a narrower last panel has the cheapest height."""
        rows, wide, unroll = choice
        full, rest = divmod(vectors, wide)
        panels = [Panel(full, wide, falling_heights(rows))]
        if rest:
            high = min(range(1, 13), key=lambda r: self.product_cost(r, rest))
            panels.append(Panel(1, rest, falling_heights(high)))
        return Tile(rows, wide, unroll, panels[0].heights, tuple(panels))

    def outer_tile_of(self, vectors: int, choice: Choice) -> Tile:
        """The same for a weight gradient, whose panels have one height."""
        rows, wide, unroll = choice
        full, rest = divmod(vectors, wide)
        panels = (Panel(full, wide, (rows,)), *([Panel(1, rest, (rows,))] if rest else []))
        return Tile(rows, wide, unroll, (rows,), panels)

    def choices(self, vectors: int, k: int) -> list[Choice]:
        """Tiles for a product that are worth measuring, the cheapest by the machine model first."""
        own = self.tile(vectors, k)
        unrolls = [own.unroll, own.unroll // 2, 2 * own.unroll]
        unrolls = [u for u in unrolls if 0 < u <= k and u % self.inner_multiple == 0]
        return promising(vectors, range(1, 13), self.product_cost, unrolls)

    def outer_choices(self, m: int, vectors: int, multiple: int = 4) -> list[Choice]:
        """The same for a weight gradient."""
        own = self.outer_tile(m, vectors, multiple)
        heights = [rows for rows in range(multiple, 17, multiple) if rows < m + multiple]
        return promising(vectors, heights, self.outer_cost, [own.unroll, 2 * own.unroll, own.unroll // 2])

    # --- machine model

    @property
    def peak_chains(self) -> int:
        """Independent FMAs that reach the peak: no port waits for a latency, and all of them are in registers."""
        return 24 if self.registers >= 32 else 12

    def panel_floats(self, k: int, columns: int) -> int:
        """Scratch that a product of inner size `k` needs for each thread."""
        return 0

    def unrollable_steps(self, k: int) -> int:
        """Steps of a product of inner size `k` that one unrolled body may have."""
        return k - 1

    def chains(self, rows: int, vectors: int) -> int:
        """Independent sums for each accumulator of a tile too small to hide the latency of an FMA."""
        wanted = self.fma_latency * self.fma_ports / (rows * vectors)
        return 1 if wanted <= 1 else 2 if wanted <= 2 else 4

    def product_ahead(self, rows: int, vectors: int) -> int:
        """For how many steps a product loads a row's scalars at once."""
        return 1

    def product_cost(self, rows: int, vectors: int) -> float:
        """Cost of an FMA in an inner step of a tile of a product; infinite where the registers do not suffice."""
        return self.cycles(rows, vectors)

    def outer_cost(self, rows: int, vectors: int) -> float:
        """The same for one row of A and B in a weight gradient."""
        return self.cycles(rows, vectors) + ROW_GAIN / rows

    def cycles(self, rows: int, vectors: int) -> float:
        """The limits of ports and latency; a load costs a fifth of an FMA even where ports are free (measured)."""
        fmas, loads = rows * vectors, rows + vectors
        if fmas + vectors + 1 > self.registers or vectors > 4:
            return inf
        latency = (self.fma_latency + 0.5) / self.chains(rows, vectors)
        return max(fmas / self.fma_ports, loads / self.load_ports, latency) / fmas * (1 + 0.2 * loads / fmas)
