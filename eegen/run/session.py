"""A session: one compiled model with its weights, optimizer state and data, ready to train."""

from __future__ import annotations

import numpy as np

from eegen.errors import EegenError
from eegen.models import FITS
from eegen.plan.records import Plan
from eegen.run.data import Dataset
from eegen.run.engine import Engine
from eegen.run.header import Array, Counters, Header, Rows, StepSettings, Totals
from eegen.run.memory import Memory
from eegen.run.threads import call_together, yield_address


class Session:
    """An engine with an arena for one model and one data set."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        data: Dataset,
        *,
        batch: int = 16,
        seed: int = 42,
        random: bool = True,
        sharing: bool = True,
        threads: int = 1,
        chunk: int = 1024,
    ) -> None:
        """`batch` and `threads` are the most that later steps may have, `chunk` the most steps of a call."""
        assert plan.train is not None, "this plan has no program that trains"
        self.plan, self.engine, self.data = plan, engine, data
        self.header = Header(plan, plan.train)
        self.header.documents, self.header.positions = len(data.documents), data.positions
        self.header.nodes, self.header.longest = data.n_nodes, data.longest
        self.header.batch, self.header.threads, self.header.chunk = batch, threads, chunk
        self.header.sharing, self.header.random = sharing, random
        self.header.counters = Counters(step=0, rng=seed, cursor=0)
        if threads > 1 and engine.in_process:
            self.header.set_yield(yield_address())
        try:
            buffer = engine.allocate(self.header)
        except BaseException:
            engine.close()
            raise
        self.header.attach(buffer)
        self.memory = Memory(plan, plan.train, self.header, buffer)
        self.capacity = batch, threads
        self._write_data()

    def _write_data(self) -> None:
        """Put the data set into the arena: a position is node << 32 | target << 16 | token."""
        data = self.data
        self.memory.array("starts", len(data.starts))[:] = data.starts
        place = self.memory.array("place", data.positions)
        place[:] = data.node
        place <<= np.uint64(32)
        place |= data.target.astype(np.uint64) << np.uint64(16)
        place |= data.token.astype(np.uint64)

    # --- settings and counters

    @property
    def settings(self) -> StepSettings:
        """The optimizer's numbers of the next steps."""
        return self.header.settings

    @settings.setter
    def settings(self, settings: StepSettings) -> None:
        self.header.settings = settings

    @property
    def counters(self) -> Counters:
        return self.header.counters

    @counters.setter
    def counters(self, counters: Counters) -> None:
        self.header.counters = counters._replace(cursor=counters.cursor % len(self.data.documents))

    @property
    def sharing(self) -> bool:
        """Whether equal prefixes share a row."""
        return bool(self.header.sharing)

    def configure(self, batch: int, threads: int, random: bool) -> None:
        """Set how the next steps are made, within the capacity of the session."""
        if batch > self.capacity[0] or threads > self.capacity[1]:
            raise EegenError(f"this session holds at most batch {self.capacity[0]} and {self.capacity[1]} threads")
        self.header.batch, self.header.threads, self.header.random = batch, threads, random

    @property
    def rows(self) -> Rows:
        """The rows of the last batch."""
        return self.header.rows

    @property
    def mean_keys(self) -> float:
        """The keys that a prefix row of the last batch attends to, itself included, on average."""
        rows = self.rows.prefix
        return float(self.memory.array("depth", rows).mean()) + 1 if rows else 0.0

    def measure(self) -> Totals:
        """Rows and clock ticks of all training steps so far."""
        return self.header.totals

    # --- tensors

    @property
    def parameters(self) -> dict[str, Array]:
        """Every named tensor [out][in], a view of the memory that training writes."""
        return self.memory.tensors(0)

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradients of the last call of `gradient`, as views."""
        return self.memory.tensors(1)

    @property
    def optimizer(self) -> dict[str, Array]:
        """The optimizer's state as `<moment>.<tensor>`, views too."""
        return {
            f"{moment}.{name}": view
            for i, moment in enumerate(self.plan.moments)
            for name, view in self.memory.tensors(2 + i).items()
        }

    @property
    def not_finite(self) -> str:
        """The name of a tensor of weights that holds infinities or NaN, or an empty string."""
        return next((name for name, view in self.parameters.items() if not np.isfinite(view).all()), "")

    # --- work

    def init(self) -> None:
        """Draw the first weights from the stream of the seed."""
        self.engine.call("eegen_init")

    def fit(self) -> None:
        """Set the parameters of a model that is computed from its data, not trained."""
        parameters = self.parameters
        fit = FITS[self.plan.build.model.model]
        for name, values in fit(self.data.token, self.data.target, self.data.vocab_size).items():
            parameters[name][:] = values

    def train(self, lr: Array) -> Array:
        """One step for each learning rate (at most `chunk`); the losses, fewer where one is not a number."""
        count = len(lr)
        self.memory.array("lr", count)[:] = lr
        done = call_together(self.engine, "eegen_train", self.header.threads, count)
        return self.memory.array("losses", count)[: done + (done < count)].copy()

    def loss(self) -> float:
        """Mean loss per position over every document of the data set, each distinct prefix of a batch computed once."""
        total, count = 0.0, 0
        for documents in self.data.batches(self.header.batch):
            total += float(self.engine.call("eegen_loss", self._choose(documents)) or 0.0)
            count += self.rows.positions
        return total / count

    def gradient(self, documents: Array) -> float:
        """Mean loss of these documents of the data set, by number; the gradients are left in `gradients`."""
        last = len(self.data.documents) - 1
        if not 1 <= len(documents) <= self.header.batch or documents.min() < 0 or documents.max() > last:
            raise EegenError(
                f"a gradient takes 1 to {self.header.batch} numbers from 0 to {last}, not {documents[:9].tolist()}"
            )
        total = float(self.engine.call("eegen_gradient", self._choose(documents)) or 0.0)
        return total / self.rows.positions

    def update(self, lr: float) -> None:
        """One step of the optimizer with the gradients in memory."""
        self.memory.array("lr", 1)[:] = lr
        self.engine.call("eegen_update")

    def close(self) -> None:
        """Release the memory, and end the process of an emulated engine. Views are not to be used afterwards."""
        self.engine.close()

    def _choose(self, documents: Array) -> int:
        """Make these documents the next batch; how many they are."""
        self.memory.array("chosen", len(documents))[:] = documents
        return len(documents)
