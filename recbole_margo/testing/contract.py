"""The contract of every multimodal model, as tests that a test class of any package inherits.

pytest collects the methods of a class that is derived from `ModelContract` and named `Test...`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from recbole.utils.case_study import full_sort_topk
from torch import Tensor
from torch.nn import functional

from recbole_margo.model.parameters import model_defaults, yaml_values
from recbole_margo.registry import find_model
from recbole_margo.testing.experiments import Experiment, prepare
from recbole_margo.testing.interruption import assert_same, at_batch, interrupted, uninterrupted
from recbole_margo.testing.worlds import MISSING, block_world, random_world
from recbole_margo.training.checkpoint import read_checkpoint
from recbole_margo.training.cuda_graphs import obstacle

SEED = 2024
# Of 5 batches an epoch, one within the second epoch.
IN_SECOND_EPOCH = 7


@contextmanager
def drawn_on_the_cpu() -> Iterator[None]:
    """Let dropout and Gumbel noise be drawn in the host's memory: equal numbers on every device."""
    generator = torch.Generator().manual_seed(SEED)

    def dropout(values: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
        if not training:
            return values
        kept = torch.rand(values.shape, generator=generator) >= p
        return values * kept.to(values.device) / (1 - p)

    def gumbel_softmax(logits: Tensor, tau: float = 1.0, *, dim: int = -1) -> Tensor:
        noise = -torch.empty(logits.shape).exponential_(generator=generator).log()
        return torch.softmax((logits + noise.to(logits.device)) / tau, dim=dim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "dropout", dropout)
        patch.setattr(functional, "gumbel_softmax", gumbel_softmax)
        yield


class ModelContract:
    """The contract of a `MultimodalRecommender`: derive a test class and name the model.

    A test that is not for a model is set to `None` in its class, with the reason beside it.

    Attributes:
        model: class of the model, or the name of one that the registry knows.
        settings: keys that make a variant of the model.
        block_settings: further keys, with which it learns the block world.
        zero_gradients: trained parameters that the loss does not depend on with these settings.
        untrained: parameters that no stage trains with these settings.
    """

    model: ClassVar[str | type[Any]]
    settings: ClassVar[Mapping[str, Any]] = {}
    block_settings: ClassVar[Mapping[str, Any]] = {}
    zero_gradients: ClassVar[Set[str]] = frozenset()
    untrained: ClassVar[Set[str]] = frozenset()

    @pytest.fixture(autouse=True)
    def _seeded_in_temporary_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RecBole's trainer writes its TensorBoard files into the working folder."""
        monkeypatch.chdir(tmp_path)
        random.seed(SEED)
        np.random.seed(SEED)
        torch.manual_seed(SEED)

    @pytest.fixture(autouse=True)
    def _values_are_complete(self, request: pytest.FixtureRequest) -> None:
        """One test says that a value is missing; the others, which cannot run, are skipped."""
        lacking = self.lacking_values()
        if lacking and request.function.__name__ != "test_yaml_keys_equal_the_typed_fields":
            pytest.skip(f"{', '.join(lacking)} of {self.model_class.__name__} has no value")

    def lacking_values(self) -> list[str]:
        """Fields that neither the model nor its settings give a value."""
        given = {*model_defaults(self.model_class), *self.settings}
        return [
            name for name in self.model_class.parameters_class.descriptions() if name not in given
        ]

    @property
    def model_class(self) -> type[Any]:
        """The class of the model."""
        return find_model(self.model) if isinstance(self.model, str) else self.model

    def build(self, root: Path, **settings: Any) -> Experiment:
        """Build the model on the world under a folder."""
        return prepare(root, self.model_class, **{**self.settings, **settings})

    # --- training ---------------------------------------------------------------------------------

    def test_every_trained_parameter_gets_a_gradient(self, tmp_path: Path) -> None:
        """Every parameter is trained in some stage, once, and the loss moves it there."""
        experiment = self.build(random_world().write(tmp_path))
        names = {id(parameter): name for name, parameter in experiment.model.named_parameters()}
        trained = set()
        for _ in experiment.stages():
            parameters = [
                parameter
                for group in experiment.model.parameter_groups(0.01)
                for parameter in group["params"]
            ]
            assert len({id(parameter) for parameter in parameters}) == len(parameters)
            experiment.model.zero_grad()
            experiment.backward(experiment.random_triplets(200))
            for parameter in parameters:
                name = names[id(parameter)]
                if name not in self.zero_gradients:
                    assert parameter.grad is not None and parameter.grad.any(), name
                trained.add(name)
        assert trained == set(names.values()) - self.untrained

    def test_losses_are_named(self, tmp_path: Path) -> None:
        """`calculate_loss` returns as many numbers as `loss_names` has names."""
        experiment = self.build(random_world().write(tmp_path))
        for _ in experiment.stages():
            terms = experiment.losses(experiment.batch(experiment.random_triplets()))
            assert len(terms) == len(experiment.model.loss_names)
            assert all(term.ndim == 0 for term in terms)

    def test_the_held_out_item_of_a_block_world_ranks_first(self, tmp_path: Path) -> None:
        """A short training finds the one item of a user's block that was held out."""
        world = block_world()
        settings = {
            "epochs": 8,
            "eval_step": 4,
            "learning_rate": 0.05,
            "train_batch_size": 64,
            "topk": [1],
            "valid_metric": "Recall@1",
            **self.block_settings,
        }
        experiment = self.build(world.write(tmp_path), **settings)
        trainer = experiment.fit()
        scores = experiment.all_scores()
        for user in experiment.user_tokens[1:]:
            (held_out,) = world.items_of(user, "test")
            row = scores[experiment.user_ids([user])[0]].copy()
            row[experiment.item_ids(sorted(world.items_of(user, "train")))] = -np.inf
            row[0] = -np.inf
            assert experiment.item_tokens[int(row.argmax())] == held_out, (
                "the model did not learn the block world: look at its initial values and its loss, "
                "or give it more epochs or another learning rate with `block_settings`"
            )
        assert trainer.evaluate(experiment.loaders[2], load_best_model=False)["recall@1"] == 1

    def test_the_batch_is_not_modified(self, tmp_path: Path) -> None:
        """Neither the loss nor a prediction changes what it is given."""
        experiment = self.build(random_world().write(tmp_path))
        batch = experiment.batch(experiment.random_triplets())
        before = {field: column.clone() for field, column in batch.interaction.items()}
        for _ in experiment.stages():
            experiment.model.calculate_loss(batch)
            experiment.model.predict(batch)
            experiment.model.full_sort_predict(batch)
            assert set(batch.interaction) == set(before)
            for field, column in batch.interaction.items():
                assert_array_equal(column, before[field])

    # --- scores -----------------------------------------------------------------------------------

    def test_full_sort_predict_equals_predict(self, tmp_path: Path) -> None:
        """Both give a pair the same score, in training and in evaluation."""
        experiment = self.build(random_world(3).write(tmp_path))
        users, items = experiment.dataset.user_num, experiment.dataset.item_num
        pairs = experiment.interaction(
            user=[user for user in range(users) for _ in range(items)],
            item=[item for _ in range(users) for item in range(items)],
        )
        for _ in experiment.stages():
            in_training = experiment.scores_now()
            experiment.model.eval()
            with torch.no_grad():
                one_by_one = experiment.model.predict(pairs).view(users, items)
            assert_allclose(experiment.scores_now(), one_by_one, rtol=1e-5, atol=1e-6)
            assert_allclose(in_training, one_by_one, rtol=1e-5, atol=1e-6)

    def test_pad_is_never_recommended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither an evaluation nor RecBole's `full_sort_topk` ranks PAD or a known item."""
        world = random_world()
        experiment = self.build(world.write(tmp_path))
        trainer, test = experiment.trainer(), experiment.loaders[2]
        seen: list[torch.Tensor] = []
        collect = trainer.eval_collector.eval_batch_collect

        def watching(scores: torch.Tensor, *others: Any) -> None:
            seen.append(scores.topk(5).indices)
            collect(scores, *others)

        monkeypatch.setattr(trainer.eval_collector, "eval_batch_collect", watching)
        trainer.evaluate(test, load_best_model=False)
        assert seen[0].shape == (20, 5) and (seen[0] > 0).all()

        users = experiment.user_ids(experiment.user_tokens[1:])
        candidates = 15 - 5  # all but those of training and validation
        _, top = full_sort_topk(users, experiment.model, test, candidates)
        assert (top > 0).all()
        for user, row in zip(users, top, strict=True):
            known = world.items_of(experiment.user_tokens[user], "train", "valid")
            assert known.isdisjoint(experiment.item_tokens[item] for item in row)

    def test_relabelling_items_only_relabels_scores(self, tmp_path: Path) -> None:
        """The same data under other internal item ids gives the same scores."""
        world = random_world().without(MISSING["some items miss one"])
        one = self.build(world.write(tmp_path / "one"))
        other = self.build(world.with_items_reordered(7).write(tmp_path / "other"))
        assert one.user_tokens == other.user_tokens
        assert one.item_tokens != other.item_tokens
        of_other = [0, *one.item_ids(other.item_tokens[1:])]
        for stage in one.stages():
            other.model.begin_stage(stage)
            one.randomize()
            relabelled = {
                name: value[of_other] if len(value) == one.dataset.item_num else value
                for name, value in one.model.state_dict().items()
            }
            other.model.load_state_dict(relabelled)
            assert_allclose(other.all_scores(), one.all_scores()[:, of_other], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("missing", MISSING)
    def test_any_pattern_of_missing_modalities_gives_finite_numbers(
        self, tmp_path: Path, missing: str
    ) -> None:
        """Gradients and scores are finite whatever the items miss."""
        root = random_world(3).without(MISSING[missing]).write(tmp_path)
        experiment = self.build(root, epochs=1)
        for _ in experiment.stages():
            experiment.backward(experiment.random_triplets(100))
            assert all(
                torch.isfinite(parameter.grad).all()
                for parameter in experiment.model.parameters()
                if parameter.grad is not None
            )
            assert np.isfinite(experiment.all_scores()).all()
        experiment.fit()
        assert np.isfinite(experiment.all_scores()).all()

    # --- runs -------------------------------------------------------------------------------------

    def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(
        self, tmp_path: Path
    ) -> None:
        """Two runs of one seed agree in every bit, and a run of another seed differs."""
        root = random_world().write(tmp_path)
        runs = []
        for seed in (3, 3, 4):
            experiment = self.build(root, seed=seed, epochs=1)
            progress = experiment.fit().progress
            runs.append((experiment.all_scores(), [stage.best_result for stage in progress]))
        assert_array_equal(runs[0][0], runs[1][0])
        assert runs[0][1] == runs[1][1]
        assert (runs[0][0] != runs[2][0]).any()

    def test_saved_and_loaded_gives_equal_scores(self, tmp_path: Path) -> None:
        """A checkpoint holds all that the scores depend on."""
        root = random_world().write(tmp_path)
        experiment = self.build(root, seed=3, epochs=2)
        trainer = experiment.fit()
        scores, test = experiment.all_scores(), trainer.evaluate_unrounded(experiment.loaders[2])

        by_trainer = self.build(root, seed=4)
        found = by_trainer.trainer().evaluate_unrounded(
            by_trainer.loaders[2], str(trainer.saved_model_file)
        )
        assert found == test
        assert_array_equal(by_trainer.all_scores(), scores)

        by_hand = self.build(root, seed=4)
        state = read_checkpoint(Path(trainer.saved_model_file))
        by_hand.model.load_state_dict(state["state_dict"])
        by_hand.model.load_other_parameter(state["other_parameter"])
        assert_array_equal(by_hand.all_scores(), scores)

    def test_an_interrupted_run_resumed_equals_the_uninterrupted_one(self, tmp_path: Path) -> None:
        """A run that stops within an epoch and goes on leaves behind the same bits."""
        world = random_world().without({"image": ("i1", "i4"), "text": ("i2",)})
        root, settings = world.write(tmp_path), {**self.settings, "epochs": 2}
        expected = uninterrupted(root, tmp_path / "whole", self.model_class, **settings)
        found = interrupted(
            root, tmp_path / "parts", self.model_class, at_batch(IN_SECOND_EPOCH), **settings
        )
        assert_same(found, expected)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cpu_and_cuda_agree(self, tmp_path: Path) -> None:
        """Gradients and scores of both devices are equal but for rounding."""
        root = random_world(3).without(MISSING["some items miss one"]).write(tmp_path)
        cpu, cuda = self.build(root), self.build(root, use_gpu=True)
        assert cuda.config["device"].type == "cuda"
        triplets = cpu.random_triplets()
        for stage in cpu.stages():
            cuda.model.begin_stage(stage)
            cuda.model.load_state_dict(cpu.model.state_dict())
            gradients = []
            for experiment in (cpu, cuda):
                experiment.model.zero_grad()
                with drawn_on_the_cpu():
                    experiment.backward(triplets)
                gradients.append(
                    {
                        name: parameter.grad.cpu()
                        for name, parameter in experiment.model.named_parameters()
                        if parameter.grad is not None
                    }
                )
            assert gradients[0].keys() == gradients[1].keys()
            for name, gradient in gradients[0].items():
                assert_allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-5, err_msg=name)
            assert_allclose(cuda.all_scores(), cpu.all_scores(), rtol=1e-4, atol=1e-5)
        cuda.fit()
        assert np.isfinite(cuda.all_scores()).all()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_captured_steps_equal_eager_ones(self, tmp_path: Path) -> None:
        """The losses of 52 steps are equal but for the order of sums, with and without a graph."""
        root = random_world(3).without(MISSING["some items miss one"]).write(tmp_path)
        # Four batches an epoch, the last of another size, and learning rates that fall.
        settings: dict[str, Any] = {"train_batch_size": 24, "epochs": 13, "stopping_step": 50}
        if "learning_rate_decay" in self.model_class.parameters_class.descriptions():
            settings["learning_rate_decay"] = 0.5
        losses, figures = [], []
        for graphs in (False, "auto"):
            experiment = self.build(root, use_gpu=True, cuda_graphs=graphs, **settings)
            trainer = experiment.trainer()
            torch.manual_seed(SEED)
            trainer.fit(*experiment.loaders[:2], verbose=False)
            assert (trainer.graph_launches > 0) == (graphs == "auto" and obstacle(trainer) is None)
            losses.append(list(trainer.train_loss_dict.values()))
            figures.append([x for stage in trainer.progress for x in stage.figures.values()])
        assert_allclose(losses[1], losses[0], rtol=1e-3)
        assert_allclose(figures[1], figures[0], rtol=1e-2, atol=1e-4)

    # --- what is written about the model ----------------------------------------------------------

    def test_yaml_keys_equal_the_typed_fields(self) -> None:
        """Every field has a value, the file has no other key, and both have the same order."""
        parameters = self.model_class.parameters_class
        fields, written = list(parameters.descriptions()), yaml_values(self.model_class)
        values = model_defaults(self.model_class)
        parameters.from_config(dict(values), self.model_class)  # names the file that lacks a value
        assert list(written) == [name for name in fields if name in written]
        assert set(values) == set(fields)

    def test_every_hyperparameter_says_what_it_means(self) -> None:
        """Every field has a sentence, and a search range within its bounds."""
        descriptions = self.model_class.parameters_class.descriptions()
        for name, description in descriptions.items():
            assert len(description.meaning) > 10, name
            if isinstance(description.search, tuple):
                low, high, scale = description.search
                assert low < high and scale in ("log", "linear"), name
                description.check(name, low)
                description.check(name, high)
            for value in description.search if isinstance(description.search, list) else []:
                description.check(name, value)

    def test_the_paper_is_cited(self) -> None:
        """`paper` is complete, and the docstring has formula, source and departures from it."""
        paper = self.model_class.paper
        assert paper.title and paper.authors and paper.venue
        assert 2000 < paper.year < 2100
        assert paper.link.startswith("https://")
        text = " ".join((self.model_class.__doc__ or "").split())
        assert "Source:" in text and "Departures from the paper:" in text
        assert str(paper.year) in text and paper.title in text
        assert ".. math::" in text
