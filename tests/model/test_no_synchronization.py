"""No step of the training makes the host wait for the device; no such device is needed to see it.

Model and batches lie on torch's `meta` device, where tensors have shapes but no values. The code
takes the way of a GPU there, and whatever the host would have to know of a tensor cannot be hidden:
`HostWaits` notes it and answers in the device's place. What a kernel does inside of itself stays
unseen; the last test asks CUDA for that.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import MODELS, VARIANTS
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_margo.model.base import StepCapture
from recbole_margo.testing import MISSING, prepare, random_world
from recbole_margo.training.stages import CHECK_EVERY
from recbole_margo.training.training_batches import TrainingBatches

aten = torch.ops.aten
META, CPU, CUDA = map(torch.device, ("meta", "cpu", "cuda"))
# Operations whose result, or its size, depends on the values; those by an index only with a mask.
BY_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
BY_INDEX = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)

POPULAR_NEGATIVES = {
    "distribution": "popularity",
    "sample_num": 1,
    "alpha": 1.0,
    "dynamic": False,
    "candidate_num": 0,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **MODELS,
    **VARIANTS,
    "MARGO with clipped gradients": ("MARGO", {"clip_grad_norm": {"max_norm": 1.0}}),
    "MARGO with popular negatives": ("MARGO", {"train_neg_sample_args": POPULAR_NEGATIVES}),
    "VBPR with the paper's penalty": ("VBPR", {"penalty": "squared"}),
    "GRCN with the paper's routing": ("GRCN", {"routing": "paper"}),
    "LGMRec with dropout": ("LGMRec", {"keep_rate": 0.5}),
    "MICRO contrasting a batch": ("MICRO", {"contrastive_items": "batch"}),
    "LATTICE learning at every batch": ("LATTICE", {"graph_refresh": "batch"}),
    "MICRO learning at every batch": ("MICRO", {"graph_refresh": "batch"}),
}
LEARNED_GRAPH = {
    "recbole_margo.graph.exact_knn.__init__": "items with a direction are looked for",
    "recbole_margo.data.row_norms.of": "rows whose squares float32 cannot hold are looked for",
    "recbole_margo.nn.latent_item_graphs.neighbor_similarities": "SciPy orders the neighbours",
}
# Where every step waits, and why; a wait that is due once an epoch is none of a step.
EXPECTED: dict[str, dict[str, str]] = {
    "MARGO with popular negatives": {
        "recbole.data.interaction.to": "RecBole's loader makes every batch in the host's memory"
    },
    "LATTICE learning at every batch": LEARNED_GRAPH,
    "MICRO learning at every batch": LEARNED_GRAPH,
}
each_case = pytest.mark.parametrize("case", CASES)
# The best epoch is kept in the host's memory and cannot be loaded back.
pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")


class HostWaits(TorchDispatchMode):
    """Notes where the host would wait for the device, and in which steps.

    Args:
        device: what is taken for the device.
    """

    def __init__(self, device: torch.device = META) -> None:
        super().__init__()
        self.device, self.step = device, 0
        self.steps: dict[str, set[int]] = defaultdict(set)
        self._lists = _TensorsOfLists(self)

    def __enter__(self):
        self._lists.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._lists.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        devices = {x.device for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        if func is aten._to_copy.default:
            devices.add(kwargs.get("device") or args[0].device)
        if self.device in devices and _waits(func, args, kwargs, devices):
            self.note()
        answer = _answer(func, args, kwargs)
        return func(*args, **kwargs) if answer is NotImplemented else answer

    def note(self) -> None:
        """Note the innermost place outside of torch and of this check."""
        frame = sys._getframe(1)
        while frame.f_globals["__name__"].startswith("torch.") or isinstance(
            frame.f_locals.get("self"), (HostWaits, _TensorsOfLists)
        ):
            frame = frame.f_back
        self.steps[f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"].add(self.step)


class _TensorsOfLists(TorchFunctionMode):
    """Notes when a list becomes a tensor of the device, which is no operation on `meta`."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.tensor and torch.device(kwargs.get("device") or CPU) == META:
            self._waits.note()
        return func(*args, **kwargs)


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _waits(func: Any, args: Any, kwargs: Any, devices: set[torch.device]) -> bool:
    """Tell whether an operation on, or between, some devices makes the host wait."""
    if func in BY_INDEX:
        by_values = any(_is_mask(index) for index in args[1])
    else:
        by_values = not BY_VALUES.isdisjoint(func.tags)
    sends = func is aten._to_copy.default and args[0].device == CPU
    return by_values or (len(devices) > 1 and not (sends and kwargs.get("non_blocking")))


def _answer(func: Any, args: Any, kwargs: Any) -> Any:
    """Return what a device would where `meta` cannot: zeros, and no rows where values choose them.

    `meta` has no products with CSR matrices either. What else it refuses fails the test.
    """
    first = args[0] if args and isinstance(args[0], Tensor) else torch.empty(0)
    if not first.is_meta:
        to_host = func is aten.copy_.default and args[1].is_meta
        return first if to_host else NotImplemented
    if func is aten.mm.default and first.layout is torch.sparse_csr:
        return args[1].new_empty(first.shape[0], args[1].shape[1])
    if func is aten.addmm.default and args[1].layout is torch.sparse_csr:
        return first.new_empty(first.shape)
    if func is aten.sparse_sampled_addmm.default:
        return first
    if torch.Tag.data_dependent_output in func.tags:
        return False
    if func is aten._to_copy.default and kwargs.get("device") == CPU:
        return torch.zeros(first.shape, dtype=kwargs.get("dtype") or first.dtype)
    if func is aten.nonzero.default:
        return first.new_empty(0, first.ndim, dtype=torch.long)
    if func is aten.index.Tensor:
        nothing = first.new_empty(0, dtype=torch.long)
        places = [[nothing] * x.ndim if _is_mask(x) else [x] for x in args[1]]
        return func(first, list(chain.from_iterable(places)))
    return NotImplemented


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return random_world().without(MISSING["some items miss one"]).write(tmp_path)


@pytest.fixture
def waits_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train a model for one epoch a stage on the device without values; return what it notes."""
    # `meta` has no autocasting, which is only ever switched off here.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())

    def train(model: str, mistake: Any = None, **settings: Any) -> tuple[HostWaits, set[str]]:
        values = {"epochs": 1, "train_batch_size": 24, **settings}
        experiment, waits = prepare(root, model, **values), HostWaits()
        experiment.config["device"] = META
        calculate_loss = experiment.model.to(META).calculate_loss

        def counted_loss(interaction: Any) -> Any:
            waits.step += 1
            if mistake is not None:
                mistake(interaction[experiment.model.USER_ID])
            return calculate_loss(interaction)

        monkeypatch.setattr(experiment.model, "calculate_loss", counted_loss)
        trainer = experiment.trainer()
        with waits:
            trainer.fit(experiment.loaders[0], verbose=False, saved=False)
        stages = len(experiment.model.training_stages)
        assert waits.step == stages * len(experiment.loaders[0]) >= 4 * stages
        return waits, {place for place, steps in waits.steps.items() if len(steps) > stages}

    return train


@each_case
def test_a_step_does_not_wait(waits_of, case):
    model, settings = CASES[case]
    _, places = waits_of(model, **settings)
    assert places == set(EXPECTED.get(case, {}))


def test_the_trainer_reads_the_losses_now_and_then(waits_of):
    waits, _ = waits_of("VBPR", train_batch_size=2)
    read = waits.steps["recbole_margo.training.stages.first_failure"]
    assert waits.step == 2 * CHECK_EVERY and read == {CHECK_EVERY, 2 * CHECK_EVERY}


MISTAKES = {
    "reads a value": lambda ids: ids.sum().item(),
    "decides by a value": lambda ids: bool((ids > 0).all()),
    "compares": lambda ids: torch.equal(ids, ids + 1),
    "reads all values": lambda ids: ids.tolist(),
    "copies to the host": lambda ids: ids.to("cpu", non_blocking=True),
    "copies into the host's memory": lambda ids: torch.zeros_like(ids, device="cpu").copy_(ids),
    "chooses by a mask": lambda ids: ids[ids > 0],
    "writes by a mask": lambda ids: ids.clone().__setitem__(ids > 0, 1),
    "looks for places": lambda ids: (ids > 0).nonzero(),
    "brings a list": lambda ids: torch.tensor([1, 2], device=ids.device),
    "brings an array": lambda ids: torch.as_tensor(ids.new_ones(2, device="cpu").numpy()).to(META),
    "chooses by the host's index": lambda ids: ids[torch.tensor([0, 1])],
}
REFUSED = {
    "looks for different values": lambda ids: ids.unique(),
    "selects by a mask": lambda ids: ids.masked_select(ids > 0),
    "repeats as often as values say": lambda ids: ids.repeat_interleave(ids),
    "counts": lambda ids: ids.bincount(),
    "gives its values away": lambda ids: ids.numpy(),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_step_that_waits_is_found(waits_of, mistake):
    _, places = waits_of("VBPR", MISTAKES[mistake])
    assert places == {f"{__name__}.<lambda>"}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_step_that_cannot_go_on_without_values_is_refused(waits_of, mistake):
    with pytest.raises((NotImplementedError, RuntimeError, TypeError)):
        waits_of("VBPR", REFUSED[mistake])


def test_a_step_in_which_values_stay_where_they_are_is_fine(waits_of):
    def chooses(ids: Tensor) -> None:
        rows = ids.new_zeros(100, 2)
        rows[ids, 1] = 3
        torch.where(ids > 0, rows[ids, 0], 0).clamp(min=1).float().masked_fill(ids > 1, 0.0)
        torch.arange(3).to(META, non_blocking=True)

    _, places = waits_of("VBPR", chooses)
    assert not places


def test_the_optimizers_one_kernel_reads_nothing(root):
    # `meta` has no such kernel: there the step counts are the host's, as without it on a GPU.
    experiment = prepare(root, "MARGO")
    groups = experiment.model.parameter_groups(0.01)
    optimizer = experiment.trainer()._build_optimizer(params=groups)
    for parameter in experiment.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    found = []
    for fused in (True, False):
        for group in optimizer.param_groups:
            group["fused"] = fused and group["fused"]
        optimizer.step()
        with HostWaits(CPU) as waits:
            optimizer.step()
        found.append(bool(waits.steps))
    assert found == [False, True]


def test_an_epoch_goes_to_the_gpu_at_once_from_pinned_memory(root, monkeypatch):
    loader = prepare(root, "MARGO").loaders[0]
    pinned: list[Tensor] = []
    sent: list[Tensor] = []
    to = Tensor.to

    def send(tensor: Tensor, device: Any, *others: Any, **named: Any) -> Tensor:
        if device != CUDA:
            return to(tensor, device, *others, **named)
        assert any(tensor is each for each in pinned) and named == {"non_blocking": True}
        sent.append(tensor)
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    monkeypatch.setattr(Tensor, "to", send)
    batches = list(TrainingBatches(loader, CUDA))
    # What negatives are found by, once; then users, items and the draws of negatives.
    assert len(batches) == 5 and len(sent) == 3 + 3
    assert {len(tensor.flatten()) for tensor in sent[3:]} == {80}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_case
def test_cuda_finds_no_step_that_waits(root, case):
    if case in EXPECTED:
        pytest.skip(f"it waits in {', '.join(EXPECTED[case])}")
    model, settings = CASES[case]
    experiment = prepare(root, model, use_gpu=True, **settings)
    batch = experiment.batch(experiment.random_triplets())
    for _ in experiment.stages():
        groups = experiment.model.parameter_groups(0.01)
        optimizer = experiment.trainer()._build_optimizer(params=groups)
        # The first step prepares what an epoch needs, and the libraries.
        for mode in ("default", "error"):
            torch.cuda.set_sync_debug_mode(mode)
            try:
                torch.stack(experiment.losses(batch)).sum().backward()
                optimizer.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")


@each_case
def test_only_steps_that_do_not_wait_are_captured(root, case):
    model, settings = CASES[case]
    captured = prepare(root, model, **settings).model.step_capture
    waits = any(place.startswith("recbole_margo.") for place in EXPECTED.get(case, {}))
    # What an epoch's first batch does, in which a captured step has no part, is no wait here.
    assert (captured is StepCapture.NEVER) == waits
