"""The tables of a comparison, as text, Markdown, LaTeX and CSV."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import markdown
import pandas as pd
import pytest
from made_up_comparison import compared, made_up_model, made_up_summary, made_up_test

from recbole_margo.errors import RecBoleMargoError
from recbole_margo.report import markdown_page, terminal_text
from recbole_margo.studies.comparison.report import (
    comparison_document,
    comparison_latex,
    comparison_report,
    results_table,
    runs_table,
    settings_table,
    significance_tables,
    slice_tables,
)
from recbole_margo.studies.comparison.result import Comparison


def comparison_text(found: Comparison, style: str = "simple") -> str:
    return terminal_text(comparison_report(found).shown, style)


def two_models(**changes: Any) -> dict[str, Any]:
    models = [
        made_up_model("A", {"recall@20": [0.30, 0.32], "giniindex": [0.9, 0.7]}),
        made_up_model("B", {"recall@20": [0.20, 0.22], "giniindex": [0.5, 0.5]}),
    ]
    tests = {"recall@20": [made_up_test("B", -0.1, 0.0499)], "giniindex": []}
    return made_up_summary(
        ["A", "B"],
        [1, 2],
        ["recall@20", "giniindex"],
        **{"models": models, "tests": tests, "slices": [], **changes},
    )


def rows_of(text: str) -> dict[str, list[str]]:
    """Return the cells of a table in tabulate's style `tsv` by the first of them."""
    rows = [[cell.strip() for cell in line.split("\t")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def test_the_text_says_mean_and_deviation_and_marks_the_best_and_the_significant() -> None:
    text = comparison_text(compared(two_models()), style="tsv")
    rows = rows_of(text)
    # The deviation of two numbers is their distance over the root of two.
    assert rows["A"][:2] == ["**0.3100 ± 0.0141**", "0.8000 ± 0.1414"]
    assert rows["B"][:2] == ["0.2100 ± 0.0141 †", "**0.5000 ± 0.0000**"]
    assert rows["model"] == ["Recall@20", "GiniIndex ↓", "seconds / run", "peak MiB"]
    assert rows["A"][2:] == ["61.8", "571"]
    assert "over 2 seeds (1, 2)" in text
    assert "↓: smaller is better." in text
    assert "† differs from A: Holm-corrected p < 0.05 of the Wilcoxon" in text
    assert "paired over 1,858 users on values averaged over seeds" in text


@pytest.mark.parametrize(("holm", "marked"), [(0.0499, True), (0.05, False), (None, False)])
def test_only_a_corrected_p_below_the_level_is_marked(holm: float | None, marked: bool) -> None:
    test = {**made_up_test("B", -0.1, 0.01), "wilcoxon_holm": holm}
    rows = rows_of(comparison_text(compared(two_models(tests={"recall@20": [test]})), style="tsv"))
    assert ("†" in rows["B"][0]) is marked
    assert "†" not in rows["B"][1]


def test_equal_to_the_printed_decimals_is_equally_good() -> None:
    models = [made_up_model(name, {"recall@20": [0.2 + add]}) for name, add in
              (("A", 0.00001), ("B", 0.00002), ("C", -0.0001))]  # fmt: skip
    rows = rows_of(
        comparison_text(
            compared(made_up_summary("A", [1], ["recall@20"], models=models)), style="tsv"
        )
    )
    assert [rows[name][0].startswith("**") for name in "ABC"] == [True, True, False]


def test_one_seed_has_no_deviation_and_says_so() -> None:
    text = comparison_text(compared(made_up_summary(seeds=[5])))
    assert "One seed (5), so there is no deviation over seeds." in text
    assert "±" not in text
    assert "averaged over seeds" not in text


def test_one_model_has_no_tests_and_says_so() -> None:
    text = comparison_text(compared(made_up_summary(["MARGO"])))
    assert "No tests: fewer than two models have results." in text
    assert "†" not in text


def test_a_reference_without_results_is_said() -> None:
    summary = made_up_summary(tests={})
    summary["models"][0] = made_up_model("MARGO", {}, errors={"1": "a", "2": "b", "3": "c"})
    assert "No tests: the reference MARGO has no results." in comparison_text(compared(summary))
    assert "No tests: there are no values per user" in comparison_text(
        compared(made_up_summary(tests={}))
    )


def failing_summary() -> dict[str, Any]:
    values = {"recall@20": [0.1, 0.3]}
    models = [
        made_up_model("A", {"recall@20": [0.4, 0.5, 0.6]}),
        made_up_model("B", values, errors={"2": "TrainingError: loss\nis nan"}),
        made_up_model("C", {}, errors={"1": "no", "2": "no", "3": "no"}),
        made_up_model("D", {}, status="failed"),
        made_up_model("E", {}, status="finished"),
    ]
    return made_up_summary("ABCDE", [1, 2, 3], ["recall@20"], models=models, slices=[])


def test_failed_seeds_and_models_are_shown_and_explained() -> None:
    text = comparison_text(compared(failing_summary()), style="tsv")
    rows = rows_of(text)
    assert rows["model"][1] == "seeds"
    assert [rows[name][1] for name in "ABCDE"] == ["3 of 3", "2 of 3", "failed", "failed", "0 of 3"]
    assert rows["B"][0].startswith("0.2000 ± 0.1414")
    assert rows["C"][0] == "–"
    lines = text.splitlines()
    assert "B failed, seed 2: TrainingError: loss is nan" in lines
    assert "D failed." in lines


def test_values_belong_to_the_seeds_that_did_not_fail() -> None:
    rows = [[cell.text for cell in row] for row in runs_table(compared(failing_summary())).rows]
    assert rows[3:6] == [
        ["B", "1", "0.1000", "0.1000", "58 + 33", "61.2"],
        ["B", "2", "failed", "–", "–", "–"],
        ["B", "3", "0.3000", "0.3000", "59 + 33", "62.2"],
    ]
    assert rows[-1][:3] == ["E", "3", "not run"]


def test_more_values_than_seeds_are_an_error_that_says_where() -> None:
    summary = two_models()
    summary["models"][0]["errors"] = {"2": "failed"}
    with pytest.raises(RecBoleMargoError, match=r"1 seeds of 'A' that did not fail.*holds 2"):
        results_table(compared(summary))


def test_tests_are_told_with_interval_effect_and_all_p_values() -> None:
    test = made_up_test("B", -0.1, 0.03, wilcoxon_p=1e-9, effect_size=-math.inf, low=None)
    (table,) = significance_tables(
        compared(two_models(tests={"recall@20": [test], "giniindex": []}))
    )
    assert table.title == "Recall@20 against A"
    assert [cell.text for cell in table.rows[0]] == [
        *("B", "1,858", "-0.1000", "[–, -0.0941]", "-inf"),
        *("< 0.0001", "0.0300", "0.0100", "0.0200"),
    ]


def test_slices_are_told_by_kind_with_the_best_in_bold() -> None:
    summary = made_up_summary(["A", "B"])
    summary["slices"][0]["values"] = {"B": 0.5}
    summary["slices"][0]["users"] = 1
    user, *_ = slice_tables(compared(summary))
    assert user.headers[1] == "3-11 training interactions (1 user, 2,406 pairs)"
    shown = [[(cell.text, cell.best) for cell in row[1:3]] for row in user.rows]
    assert shown == [[("–", False), ("0.2900", True)], [("0.5000", True), ("0.2860", False)]]
    assert len(slice_tables(compared(summary))) == 3


def test_settings_are_told_as_json() -> None:
    summary = two_models()
    summary["models"][1]["settings"] = {"alpha": 1.0, "modalities": ["text"], "x": None}
    rows = [[cell.text for cell in row] for row in settings_table(compared(summary)).rows]
    assert rows == [["A", "A", "–"], ["B", "B", 'alpha = 1.0, modalities = ["text"], x = null']]


HOSTILE = "a|b <script>alert(1)</script> *x* [y](z) `c` \\ & 50 % $5_{2}^3 ~#\n\x1b[31mred"


def test_markdown_shows_hostile_labels_as_text() -> None:
    text = markdown_page(comparison_document(compared(made_up_summary([HOSTILE, "B"]))))
    page = markdown.markdown(text, extensions=["tables"])
    assert "<script" not in page
    assert "<em>" not in page
    assert "<a " not in page
    assert "<code>" not in page
    # The label with a bar did not break the table into more columns.
    first = page.split("<tbody>")[1].split("</tr>")[0]
    assert first.count("<td") == 7
    assert (
        "a|b &lt;script&gt;alert(1)&lt;/script&gt; *x* [y](z) `c` \\ &amp; 50 % $5_{2}^3" in first
    )
    assert "\x1b" not in text


def test_markdown_has_all_parts() -> None:
    text = markdown_page(
        comparison_document(compared({**failing_summary(), "slices": made_up_summary()["slices"]}))
    )
    parts = ["What failed", "Test metrics", "Tests", "Slices", "Runs", "Settings"]
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == parts
    assert "mmrec: only training items leave the candidates at test" in text


def test_latex_has_rules_bold_daggers_and_no_raw_signs() -> None:
    summary = two_models()
    summary["models"][1]["label"] = "[B] 50 % & $x_1$ \\input{a}"
    summary["tests"]["recall@20"][0]["label"] = summary["models"][1]["label"]
    text = comparison_latex(compared(summary))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert rows == [
        r"model & Recall@20 & GiniIndex $\downarrow$ \\",
        r"A & \textbf{0.3100 $\pm$ 0.0141} & 0.8000 $\pm$ 0.1414 \\",
        r"{[}B] 50 \% \& \$x\_1\$ \textbackslash{}input\{a\} & 0.2100 $\pm$ 0.0141$^{\dagger}$ "
        r"& \textbf{0.5000 $\pm$ 0.0000} \\",
    ]
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert not set("±†↓–") & set(text)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here")
@pytest.mark.slow
def test_latex_compiles(tmp_path: Path) -> None:
    hostile = HOSTILE.split("\n")[0]
    table = comparison_latex(compared(made_up_summary([hostile, "*starred", "[bracket]"])))
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"
    (tmp_path / "a.tex").write_text(document % f"\n{table}", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_csv_is_tidy_and_unrounded() -> None:
    values = [1 / 3, 2 / 3, 1 / 7]
    models = [made_up_model('A, "quoted"\n=1+1', {"recall@20": values})]
    models.append(made_up_model("C", {}, errors={"1": "no", "2": "no", "3": "no"}))
    summary = made_up_summary("AC", [3, 1, 2], ["recall@20"], models=models)
    table = pd.read_csv(
        io.StringIO(comparison_report(compared(summary)).texts["comparison.csv"]),
        float_precision="round_trip",
    )
    assert table["label"].unique().tolist() == ['A, "quoted" =1+1']
    for_test = table[(table["on"] == "test") & (table["statistic"] == "value")]
    assert for_test["seed"].tolist() == [3, 1, 2]
    assert for_test["value"].tolist() == values
    statistics = table[table["statistic"] != "value"].set_index("statistic")
    assert statistics["seed"].isna().all()
    assert statistics.loc["mean", "value"] == models[0]["mean"]["recall@20"]
    assert statistics.loc["std", "value"] == models[0]["std"]["recall@20"]
    validation = table[table["on"] == "valid"]
    assert validation["metric"].unique().tolist() == ["recall@20"]
    assert len(validation) == 3


def test_thirteen_models_and_four_metrics_are_all_there() -> None:
    names = [f"Model{number}" for number in range(13)]
    rows = rows_of(comparison_text(compared(made_up_summary(names)), style="tsv"))
    assert set(names) < set(rows)
    assert all(len(rows[name]) == 6 for name in names)
