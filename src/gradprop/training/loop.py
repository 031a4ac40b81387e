"""The training loop: minibatches, probes, and the status of every replica."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gradprop.components.datasets import Dataset
from gradprop.components.initializers import stream_seed
from gradprop.probes.measurements import ScheduleError as ScheduleError
from gradprop.probes.measurements import probe_steps as probe_steps
from gradprop.probes.measurements import total_steps as total_steps
from gradprop.spec import Stack
from gradprop.training import independence
from gradprop.training.recording import Recorder, StackResult
from gradprop.training.stacking import StackedNetwork
from gradprop.training.stopwatch import Stopwatch

# Share of the work from which the time that remains is told.
LEAST_DONE = 0.02


class Progress:
    """A line now and then that suits a log file as well as a terminal.

    Parameters
    ----------
    label
        What stands at the beginning of every line.
    cells
        Number of cells to train.
    work
        Total work in any unit; progress is measured in the same unit.
    interval
        Seconds between two lines.
    """

    def __init__(self, label: str, cells: int, work: float, interval: float = 5.0) -> None:
        self.label, self.cells, self.work, self.interval = label, cells, work, interval
        self.start = self.last = time.monotonic()
        self.done = 0.0

    def advance(self, work: float, message: str) -> None:
        """Note that `work` was done; print a line if the last one is long enough ago."""
        self.done += work
        now = time.monotonic()
        if now - self.last >= self.interval:
            self.last = now
            elapsed, share = now - self.start, self.done / self.work
            line = f"{message}, {elapsed:.0f} s elapsed"
            if share > LEAST_DONE:  # the first steps are compiled, and let expect far too much
                line += f", about {elapsed / share - elapsed:.0f} s remaining"
            self.say(line)

    def say(self, message: str) -> None:
        """Print a line."""
        print(f"[{self.label}] {message}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Print the last line."""
        cells = _counted(self.cells, "cell")
        self.say(f"{cells} done in {time.monotonic() - self.start:.1f} s")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def minibatches(stack: Stack, examples: int) -> Iterator[NDArray[np.int32]]:
    """Yield the examples of one step after another, shape (replicas, batch), without end.

    Every cell has its own random permutation of the training set for every epoch, from a stream
    that depends on nothing but its seed.
    """
    size = stack.first.batch_size
    streams = [np.random.default_rng(stream_seed("batches", c.seed)) for c in stack.cells]
    while True:
        order = np.stack([stream.permutation(examples) for stream in streams]).astype(np.int32)
        for start in range(0, examples - size + 1, size):
            yield order[:, start : start + size]


def train_stack(
    stack: Stack, dataset: Dataset, stopwatch: Stopwatch, progress: Progress
) -> StackResult:
    """Train the cells of a stack and record their probes.

    The probe at step t sees the weights after t updates, the gradient of the minibatch of step t
    and the update that the optimizer makes of it. The last probe takes one more minibatch, after
    the final evaluation; its update belongs to no result.

    A cell that is alone is trained twice, side by side: TensorFlow multiplies a single pair of
    small matrices in another order of summation than each of several pairs.
    """
    if len(stack.cells) == 1:
        twice = Stack(stack.cells * 2)
        return train_stack(twice, dataset, stopwatch, progress).of_distinct_cells()
    program = stack.first
    examples = len(dataset.x_train)
    steps = total_steps(program, examples)
    probes = set(probe_steps(steps, program.probes))
    with stopwatch.phase("build"):
        network = StackedNetwork(stack, dataset)
    recorder = Recorder(stack, network, dataset, steps)
    traced: set[bool] = set()  # plain and probed steps are two programs
    cells = _counted(len({cell.id for cell in stack.cells}), "cell")
    label = f"{program.activation.label}, depth {program.depth}, {cells}"
    for step, batch in zip(range(steps + 1), minibatches(stack, examples), strict=False):
        if step in probes and steps > 0:
            with stopwatch.phase("evaluate"):
                recorder.evaluate_test()
                if step == steps:
                    recorder.evaluate_final()
        probed = step in probes
        if probed:
            with stopwatch.phase("probe"):
                recorder.prepare(step)
        with stopwatch.phase("train" if probed in traced else "trace"):
            result = network.step(batch, probed)
            recorder.observe(step, result, batch)
        traced.add(probed)
        if result.layers is not None:
            with stopwatch.phase("probe"):
                recorder.probe(step, result.layers)
        progress.advance(step_work(stack), f"{label}, step {step}/{steps}")
    return recorder.result()


def step_work(stack: Stack) -> float:
    """Return a measure of the work of one step of a stack: the hidden weights that it trains."""
    trained = max(len(stack.cells), 2)  # a cell that is alone is trained twice
    return trained * (stack.first.depth + 1) * stack.first.width**2


def train(
    stacks: list[Stack], dataset: Dataset, stopwatch: Stopwatch, label: str
) -> Iterator[StackResult]:
    """Train stacks of one data set, one after another, with progress on standard error."""
    stacks = independence.separated(stacks)
    examples = len(dataset.x_train)
    work = sum(step_work(s) * (total_steps(s.first, examples) + 1) for s in stacks)
    progress = Progress(label, sum(len(stack.cells) for stack in stacks), work)
    progress.say(f"training {_counted(progress.cells, 'cell')} in {_counted(len(stacks), 'stack')}")
    for stack in stacks:
        yield train_stack(stack, dataset, stopwatch, progress)
    progress.finish()
