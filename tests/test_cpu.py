"""The features of a processor, from what Linux reports of it."""

from __future__ import annotations

import pytest

from eegen.targets import TARGETS
from eegen.targets.cpu import features_of

CPUINFO = {
    "avx512": "processor\t: 0\nflags\t\t: fpu sse2 fma avx2 avx512f avx512bw avx512cd avx512dq avx512vl\n",
    "neon": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes\n",
    "sme2": "processor\t: 0\nFeatures\t: fp asimd sve sme sme2\n",
    "rvv": "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdcv_zicsr_zba_zvl256b\nmmu\t\t: sv39\n",
}


@pytest.mark.parametrize("target", CPUINFO)
def test_what_a_target_needs_is_found(target: str) -> None:
    assert set(TARGETS[target].needs) <= features_of(CPUINFO[target])


def test_letters_and_names_of_risc_v() -> None:
    assert features_of("isa : rv64imafdc_zicsr_svinval") == {*"imafdc", "zicsr", "svinval"}
    assert not set(TARGETS["rvv"].needs) <= features_of("isa : rv64gc_zicsr_zve32f")


def test_other_lines_are_no_features() -> None:
    assert features_of("model name : a processor with flags: avx2\nbugs : v spectre_v1\n") == set()
