"""The one course of every study of many runs: a plan in a folder, begun, continued, reported."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from recbole_margo.command_line import one_line
from recbole_margo.config import Settings
from recbole_margo.defaults import parse_settings, parse_yaml, refuse_settings
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.output_folder import is_unused, locked_folder, output_folder
from recbole_margo.report import Document, Section, terminal_bold, terminal_text, write_document
from recbole_margo.store.plain import as_plain, from_plain
from recbole_margo.store.reading import read_json
from recbole_margo.store.writing import LOCK, write_json
from recbole_margo.studies.runs.entry import merged_settings
from recbole_margo.studies.runs.pool import HERE, Pool


class StudyPlan(Protocol):
    """The plan of a study: a dataclass whose plain form is a file in the study's folder."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""

    def check(self) -> None:
        """Raise a `RecBoleMargoError` where it makes no sense, before anything is trained."""


Plan = TypeVar("Plan", bound=StudyPlan)
Result = TypeVar("Result")


@dataclass(frozen=True)
class StudyReport:
    """The files that are written of a result, and what its command prints.

    Args:
        stem: name of the pages `<stem>.md` and `<stem>.html`.
        shown: the sections for a terminal.
        page: name of the HTML page if it is another one.
        after: a last line for a terminal, with `{}` for the folder.
    """

    stem: str
    document: Document
    texts: Mapping[str, str]
    shown: Sequence[Section]
    failed: bool = False
    page: str = ""
    after: str = ""

    def write(self, folder: Path) -> list[Path]:
        """Write the files; what is there already is replaced."""
        return write_document(folder, self.stem, self.document, self.texts, self.page)

    def show(self, folder: Path) -> int:
        """Print what a terminal shows, and return the exit status, 1 if any run failed."""
        text = terminal_text(self.shown, bold=terminal_bold())
        page = folder / (self.page or f"{self.stem}.html")
        sys.stdout.write(f"{text}\n\nReport: {page}\n{self.after.replace('{}', str(folder))}")
        return int(self.failed)


def no_report(_: object) -> None:
    """Report nothing: the work itself does."""


@dataclass(frozen=True)
class Study(Generic[Plan, Result]):
    """A kind of study, whose folder holds its plan, its runs and its reports.

    Args:
        what: what it is called, without an article.
        verb: the command that continues one; None for a part of another study, which speaks for it.
        work: trains the runs that are missing and returns what came out.
        shares_folder: whether a new one may have a folder with other things in it.
    """

    what: str
    verb: str | None
    file: str
    plan: type[Plan]
    work: Callable[[Plan, Path, Pool], Result]
    report: Callable[[Result], StudyReport | None] = no_report
    shares_folder: bool = False

    def begin(self, plan: Plan, folder: str | Path | None = None, pool: Pool = HERE) -> Result:
        """Begin a study.

        Args:
            folder: a new or empty one; none: `runs/<time>-<dataset>`.

        Raises:
            RecBoleMargoError: on bad input, before anything is trained.
        """
        return self._begin(plan, folder, pool)[1]

    def _begin(self, plan: Plan, given: str | Path | None, pool: Pool) -> tuple[Path, Result]:
        plan.check()
        with output_folder(given, plan.dataset) as folder:
            self._check_unused(folder)
            with self._locked(folder):
                self._check_unused(folder)
                write_json(folder / self.file, as_plain(plan))
                try:
                    return folder, self.run(plan, folder, pool)
                except ConfigError:
                    # What is refused before anything was trained leaves nothing to continue.
                    if {path.name for path in folder.iterdir()} <= {self.file, LOCK}:
                        (folder / self.file).unlink()
                    raise

    def resume(self, folder: str | Path, pool: Pool = HERE) -> Result:
        """Continue an interrupted study: finished runs are kept, the others trained.

        Raises:
            CheckpointError: if the folder holds no such study.
        """
        return self.go_on(self.read(Path(folder)), Path(folder), pool)

    def go_on(self, plan: Plan, folder: Path, pool: Pool = HERE) -> Result:
        """Continue a study whose plan was read."""
        with self._locked(folder):
            return self.run(plan, folder, pool)

    def run(self, plan: Plan, folder: Path, pool: Pool) -> Result:
        """Do the work in a folder that this process has locked, and write the report."""
        found = self.work(plan, folder, pool)
        report = self.report(found)
        if report is not None:
            report.write(folder)
        return found

    def part(self, plan: Plan, folder: Path, pool: Pool) -> Result:
        """Begin or continue a study that is part of another one."""
        silent = dataclasses.replace(self, verb=None)
        if (folder / self.file).is_file():
            return silent.resume(folder, pool)
        return silent.begin(plan, folder, pool)

    def read(self, folder: Path) -> Plan:
        """Read the plan of a folder.

        Raises:
            CheckpointError: if there is none.
            ConfigError: if it is of another kind of study, or cannot be done here.
        """
        try:
            plan = from_plain(self.plan, read_json(folder / self.file))
            plan.check()
        except ConfigError as error:
            raise ConfigError(f"{folder / self.file}: {error}") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{folder} does not hold a {self.what} that can be resumed: {one_line(error)}"
            ) from error
        return plan

    def run_command(
        self,
        options: argparse.Namespace,
        rest: Sequence[str],
        make: Callable[[Settings], Plan],
        given: Sequence[str] = (),
    ) -> int:
        """Begin or continue what a command line asks for, show it, and return the exit status.

        Args:
            options: as `add_run_options` adds them.
            given: options that a continued study, which has its plan, refuses.
        """
        pool, settings = Pool(options.workers, options.cluster), parse_settings(rest)
        if options.resume:
            refuse_settings({**dict.fromkeys(given), **settings})
            folder, found = Path(options.resume), self.resume(options.resume, pool)
        else:
            plan = make(merged_settings((options.config_files or "").split(), settings))
            folder, found = self._begin(plan, options.output_dir, pool)
        report = self.report(found)
        return 0 if report is None else report.show(folder)

    def _check_unused(self, folder: Path) -> None:
        there = (folder / self.file).is_file() if self.shares_folder else not is_unused(folder)
        if there:
            found = f"already holds a {self.what}" if self.shares_folder else "is not empty"
            raise ConfigError(
                f"{folder} {found}: continue a {self.what} with --resume={folder}, or name another "
                "--output_dir"
            )

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        with locked_folder(folder):
            try:
                yield
            except KeyboardInterrupt:
                if self.verb:
                    logging.getLogger().warning(
                        "Continue with recbole-margo %s --resume=%s", self.verb, folder
                    )
                raise


def add_run_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options of a command that trains several runs.

    Args:
        what: what the folder holds, such as `comparison`.
    """
    add = parser.add_argument
    add("--dataset", default="ml-100k", help="name of the dataset (ml-100k)")
    add("--seeds", default="3", help="how many, or which: 5, or [1, 7, 9] (3)")
    add_pool_options(parser, "runs")
    add("--config_files", default="", help="YAML files, separated by blanks")
    add("--output_dir", help=f"folder of the {what} (runs/<time>-<dataset>)")
    add("--resume", metavar="DIR", help=f"{what} to continue")


def add_pool_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options that say who trains."""
    parser.add_argument(
        "--workers",
        type=int,
        help=f"{what} at a time (1; with --cluster as many as it has room for)",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help=f"train the {what} on a Ray cluster: auto, local or HOST:PORT",
    )


def read_seeds(text: str) -> list[int]:
    """Return 1 to N for a number N, and a list as it is.

    Raises:
        ConfigError: if it is neither, or the list is empty.
    """
    seeds = parse_yaml(text, origin="the value of --seeds")
    if type(seeds) is int and seeds > 0:
        return list(range(1, seeds + 1))
    if seeds and isinstance(seeds, list):
        return seeds
    raise ConfigError(f"--seeds must be a number or a list such as [1, 2, 3], found {text!r}")
