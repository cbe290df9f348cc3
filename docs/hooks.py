"""What MkDocs cannot know: pages of models, tutorials and changes, and formulas as MathML.

MathML is drawn by the browser itself, so that the site needs no script from elsewhere.
"""

from __future__ import annotations

import html
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from recbole_margo.model.parameters import model_defaults
from recbole_margo.registry import OURS, multimodal_models

_BLOCK = re.compile(r"^\.\. math::(?P<formula>(?:.*\n)(?:(?:[ \t]+.*)?\n)*)", re.MULTILINE)
# Formulas of pages, as GitHub shows them; code is left as it is.
_DOLLARS = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`)|\$(?P<formula>[^$\n]*[\\^_=][^$\n]*)\$", re.M | re.S
)
_INLINE = re.compile(r":math:`([^`]+)`")


def with_formulas(text: str) -> str:
    """Return a docstring with its reStructuredText formulas as MathML."""

    def block(match: re.Match[str]) -> str:
        formulas = re.split(r"\n\s*\n", textwrap.dedent(match["formula"]).strip())
        return "\n\n" + "\n\n".join(convert(one, display="block") for one in formulas) + "\n\n"

    text = _BLOCK.sub(block, text + "\n")
    # Markdown takes a line that begins with <math> for a block, and one with <span> for text.
    return _INLINE.sub(lambda match: f"<span>{convert(match[1])}</span>", text).rstrip("\n")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page with its formulas as MathML, and its links to tutorials to their pages.

    The sources name the programs, which are there without a site too.
    """
    markdown = re.sub(r"(\]\((?:\.\./)*tutorials/\w+)\.py\)", r"\1.md)", markdown)
    return _DOLLARS.sub(
        lambda match: match["code"] or f"<span>{convert(match['formula'])}</span>", markdown
    )


class MathInDocstrings(griffe.Extension):
    """Formulas of the docstrings that mkdocstrings shows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace the formulas of one docstring."""
        if obj.docstring and ":math:" in obj.docstring.value.replace(".. math::", ":math:"):
            obj.docstring.value = with_formulas(obj.docstring.value)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the models' pages to the navigation."""
    for section in config.nav or []:
        if "Models" in section:
            section["Models"].extend({name: _path(name)} for name in _models())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are written elsewhere to the files."""
    pages = {_path(name): model_page(name, model) for name, model in _models().items()}
    changes = Path("CHANGELOG.md").read_text(encoding="utf-8")
    pages["changelog.md"] = changes.replace("](docs/", "](")
    for tutorial in sorted(Path("docs/tutorials").glob("*.py")):
        pages[f"tutorials/{tutorial.stem}.md"] = tutorial_page(tutorial)
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def tutorial_page(path: Path) -> str:
    """Return a tutorial in percent format as Markdown: cells of text and cells of code."""
    page = [f"*This page is a program: [`{path}`]({path.name}). It runs as it is.*"]
    for cell in re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        kind, _, body = cell.partition("\n")
        if "[markdown]" in kind:
            page.insert(-1, re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip())
        else:
            page.insert(-1, f"```python\n{body.strip()}\n```")
    return "\n\n".join(page) + "\n"


def model_page(name: str, model: Any) -> str:
    """Return a model's page: its paper, its docstring and its keys."""
    paper = model.paper
    defaults = model_defaults(model)
    rows = [
        f"| `{key}` | {_cell(defaults.get(key))} | {_cell(known.range_text())} | "
        f"{_cell(known.paper)} | {html.escape(known.meaning)} |"
        for key, known in model.parameters_class.descriptions().items()
    ]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{html.escape(paper.authors)}: [{html.escape(paper.title)}]({paper.link}), "
            f"{paper.venue} {paper.year}.",
            "",
            _as_markdown(with_formulas(inspect.getdoc(model) or "")),
            "",
            "## Keys",
            "",
            "| key | default | search range | paper | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "Train it:",
            "",
            f"    recbole-margo train --model={name} --dataset=ml-100k",
            "",
        ]
    )


def _models() -> dict[str, Any]:
    """Return the classes of this project's models by name."""
    return {
        name: entry.load()
        for name, entry in sorted(multimodal_models().items())
        if entry.source == OURS
    }


def _path(name: str) -> str:
    return f"models/{name.lower()}.md"


def _cell(value: Any) -> str:
    return "" if value is None or value == "" else f"`{value}`".replace("|", "\\|")


def _as_markdown(text: str) -> str:
    """Return a docstring without its arguments, which all models share, and with its lists."""
    text = re.sub(r"^(Departures[^\n]*:)\n((?:    .*\n?|\n)+)", _listed, text, flags=re.MULTILINE)
    return re.sub(r"^Args:\n(?:[ \t]+.*\n|\n(?=[ \t]))*\n?", "", text, flags=re.MULTILINE)


def _listed(match: re.Match[str]) -> str:
    return f"## {match[1].rstrip(':')}\n\n{textwrap.dedent(match[2])}"
