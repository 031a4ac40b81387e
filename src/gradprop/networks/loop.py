"""The training loop of networks that a study builds itself."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np

from gradprop.components import network
from gradprop.components.datasets import Dataset
from gradprop.networks.model import Model
from gradprop.probes.measurements import probe_steps, total_steps
from gradprop.spec import Cell, Shard, Stack
from gradprop.training.backend import tf
from gradprop.training.loop import Progress, minibatches
from gradprop.training.recording import Recorder, StackResult
from gradprop.training.stopwatch import Stopwatch


def train(
    shard: Shard, stacks: list[Stack], dataset: Dataset, stopwatch: Stopwatch
) -> Iterator[StackResult]:
    """Train cells one after another, with progress on standard error.

    Parameters
    ----------
    shard
        What they are from: what differs between its cells has to make a difference.
    stacks
        The cells.
    dataset
        Theirs.
    stopwatch
        Notes where the time goes.

    Raises
    ------
    gradprop.errors.ConfigError
        If a network can't be built or trained; what is finished by then was yielded.
    """
    cells = [cell for stack in stacks for cell in stack.cells]
    examples = len(dataset.x_train)
    work = sum(_work(cell) * (total_steps(cell, examples) + 1) for cell in cells)
    progress = Progress(shard.name, len(cells), work)
    progress.say(f"training {len(cells)} networks of {network.FILE}, one after another")
    varied = {name for name in Cell.__dataclass_fields__ if _differs(shard, name)}
    for cell in cells:
        yield train_cell(cell, dataset, stopwatch, progress, varied)
        gc.collect()  # or the programs of all networks stay until memory is short
    progress.finish()


def _differs(shard: Shard, name: str) -> bool:
    return len({getattr(cell, name) for cell in shard.cells}) > 1


def _work(cell: Cell) -> float:
    return float(cell.depth + 1)


def train_cell(
    cell: Cell,
    dataset: Dataset,
    stopwatch: Stopwatch,
    progress: Progress,
    varied: set[str] | None = None,
) -> StackResult:
    """Train the network of a cell and record its probes.

    The probe at step t sees the weights after t updates, the gradient of the minibatch of step t
    and the update that the optimizer makes of it, as in `gradprop.training.loop.train_stack`. The
    step of a probe is rehearsed by the instruments and then made without them: probes change no
    weight. So is a step whose loss is not finite, from the weights before it, which tells the layer
    that went bad.

    Parameters
    ----------
    varied
        Parameters that differ between the cells beside it, which its network has to make use of.
    """
    file, stack = network.file_of(cell), Stack((cell,))
    steps = total_steps(cell, len(dataset.x_train))
    probes = set(probe_steps(steps, cell.probes))
    with stopwatch.phase("build"):
        model = Model(cell, file, dataset)
    recorder = Recorder(stack, model, dataset, steps)  # type: ignore[arg-type]
    for step, batch in zip(
        range(steps + 1), minibatches(stack, len(dataset.x_train)), strict=False
    ):
        if step in probes and steps > 0:
            with stopwatch.phase("evaluate"):
                recorder.evaluate_test()
                if step == steps:
                    recorder.evaluate_final()
        model.advance()
        rehearsed = None
        if step in probes:
            with stopwatch.phase("probe"):
                recorder.prepare(step)
                rehearsed = model.rehearse(batch)
        if step == 0 and (ignored := model.given.unused(varied or set())):
            raise file.error(
                f"it makes no use of {', '.join(ignored)}, which the grid of the study sets"
            )
        before = model.kept()
        if rehearsed is not None and step == steps:  # nobody asks for the weights after it
            made = rehearsed.step
        else:
            with stopwatch.phase("train" if step else "trace"):
                made = model.step(batch)
        if recorder.bad_step[0] < 0 and not np.isfinite(made.losses.numpy()).all():
            after = model.kept()
            model.put_back(before)
            bad = model.first_bad_layer(rehearsed or model.rehearse(batch))
            model.put_back(after)
            made = made._replace(first_bad_layer=tf.constant([bad]))
        recorder.observe(step, made, batch)
        if rehearsed is not None:
            with stopwatch.phase("probe"):
                rows, norm = model.rows(rehearsed, is_made=step < steps)
                recorder.note(step, rows, np.array([norm]))
        progress.advance(_work(cell), f"depth {cell.depth}, seed {cell.seed}, step {step}/{steps}")
    return recorder.result()
