import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harp.errors import HarpError
from harp.report import drawing, write_report
from harp.runs import read_json, write_json
from tests.report.conftest import change


def test_both_pages_show_the_numbers(page: tuple[str, str]) -> None:
    numbers = ["246", "12,304", "2.0 %", "L∞, eps = 8/255", "397", "62.5 %", "0.65 %", "12.3 kB", "12,345"]
    numbers += ["71,000 (7.9 %)", "900,000 (100.0 %)", "trades with AWP 0.005", "float32"]
    cells = ["95.1 (91.0-98.5)", "83.2 (79.1-86.6)", "61.7 (57.6-65.1)", "APGD with loss ce", "f00d", "ab" * 32]
    for text in page:
        assert [number for number in (*numbers, *cells) if number not in text] == []


def test_html_fetches_nothing_and_runs_no_script_but_ours(page: tuple[str, str]) -> None:
    html = page[0]
    assert "http" not in html
    ours = (Path(drawing.__file__).parent / "sort.js").read_text()
    assert re.findall(r"<script.*?</script>", html, re.S) == [f"<script>\n{ours}\n</script>"]
    assert "@import" not in html
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_class_names_are_text_not_tags(page: tuple[str, str]) -> None:
    html, _ = page
    assert "&lt;b&gt;" in html
    assert '<th scope="col"><b>' not in html


def test_every_chart_has_a_title_and_a_label(page: tuple[str, str]) -> None:
    charts = re.findall(r"<svg[^>]*>.{0,8}", page[0])
    assert len(charts) == 5
    assert all('role="img" aria-label="' in chart and "<title>" in chart for chart in charts)


class Balance(HTMLParser):
    """Fails where a tag closes that is not the last one opened."""

    open: list[str]

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "img", "path", "use", "image", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use", "image", "rect"):
            assert self.open.pop() == tag


def test_html_is_well_formed(page: tuple[str, str]) -> None:
    parser = Balance()
    parser.open = []
    parser.feed(page[0])
    assert parser.open == []


def test_same_records_give_the_same_bytes(folder: Path) -> None:
    copy = folder.with_name("elsewhere")
    shutil.copytree(folder, copy)
    first, second = write_report(folder), write_report(copy)
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".md").read_bytes() == second.with_suffix(".md").read_bytes()


def test_the_users_matplotlib_settings_change_nothing(folder: Path) -> None:
    import matplotlib

    before = write_report(folder).read_bytes()
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        assert write_report(folder).read_bytes() == before


def test_a_run_from_somebodys_checkpoint_has_no_pretraining(folder: Path) -> None:
    shutil.rmtree(folder / "1-pretrain")
    html = write_report(folder).read_text()
    assert "1-pretrain" not in html
    assert "3-finetune" in html


def test_a_method_without_rates_has_two_charts(folder: Path) -> None:
    metrics = folder / "2-prune/metrics.jsonl"
    records = [json.loads(line) | {"pruner": {}} for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    allocation = read_json(folder / "2-prune/allocation.json")
    sites = [{**site, "rate": None} for site in allocation["sites"]]
    change(folder / "2-prune/allocation.json", sites=sites, method="hydra", density_before=0.02)
    html = write_report(folder).read_text()
    assert html.count("<svg") == 2
    for page in (html, (folder / "report.md").read_text()):
        absent = ["How the budget was reached", "Before settling", "learned rate", "(mode"]
        assert [words for words in absent if words in page] == []
        assert "The method hydra kept 246 of 12,304 weights." in page


def test_channels_are_told_as_channels(channels: Path) -> None:
    html = write_report(channels).read_text()
    for page in (html, (channels / "report.md").read_text()):
        told = [
            "50.0 %</span> of its multiply-accumulates kept"
            if page == html
            else "50.0 % of its multiply-accumulates kept",
            "The method harp (mode exact) kept 57 of 112 channels, which leaves 5,021 weights and 449,870",
            "Where the kept channels are",
            "The budget allowed 450,000 of 900,000 multiply-accumulates (50.0 %); 449,870 were spent.",
            "449,870 (50.0 %)",
            "5,021 (40.8 %)",
            "can only go together",
            "12.3 kB (12,345 bytes); dense: 45.7 kB (45,678 bytes)",
            "the network itself is smaller",
        ]
        assert [words for words in told if words not in page] == []
        assert "kept weights" not in page


def test_mode_exact_has_neither_penalty_nor_gamma(channels: Path) -> None:
    html = write_report(channels).read_text()
    assert html.count("<svg") == 5
    assert "gamma" not in html.split("Repeat it")[0]
    assert "lowered to the budget step by step" in html
    assert "How much each part (robust) moved the rates" in html


def test_rates_that_nothing_moved_have_no_chart_of_what_did(channels: Path) -> None:
    metrics = channels / "2-prune/metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    for record in records:
        record["pruner"]["rate_gradients"]["robust"] = dict.fromkeys(record["pruner"]["rates"], 0.0)
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "Parts of the rates" not in write_report(channels).read_text()


def test_without_held_out_images_there_is_no_validation_chart(folder: Path) -> None:
    for metrics in folder.glob("*/metrics.jsonl"):
        records = [json.loads(line) | {"validation": None} for line in metrics.read_text().splitlines()]
        metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "Validation accuracy over the run" not in write_report(folder).read_text()


def test_a_stage_that_recorded_nothing_is_no_obstacle(folder: Path) -> None:
    (folder / "3-finetune/metrics.jsonl").write_text("")
    change(folder / "3-finetune/done.json", selected_step=None)
    assert "3-finetune" in write_report(folder).read_text()


def test_an_l2_threat_is_named(folder: Path) -> None:
    change(folder / "evaluation/results.json", threat={"norm": "2", "eps": 0.5})
    assert "L2, eps = 0.5" in write_report(folder).read_text()


def test_names_cannot_break_the_markdown(folder: Path) -> None:
    sites = read_json(folder / "2-prune/allocation.json")["sites"]
    sites[0]["name"] = "a|b*c_<i>`$x$"
    change(folder / "2-prune/allocation.json", sites=sites)
    write_report(folder)
    assert r"| a\|b\*c\_&lt;i&gt;\`$x$ |" in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("recipe.yaml", "harp run"),
        ("2-prune/allocation.json", "harp run"),
        ("3-finetune/done.json", "harp run"),
        ("evaluation/results.json", "harp evaluate"),
        ("evaluation/examples.safetensors", "harp evaluate"),
        ("export/manifest.json", "harp export"),
    ],
)
def test_a_missing_record_names_the_command_to_run(folder: Path, name: str, command: str) -> None:
    (folder / name).unlink()
    with pytest.raises(HarpError, match=rf"no {name}; run `{command}`"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_missing_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarpError, match=r"no run directory .*nowhere"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("2-prune/allocation.json", "keep"),
        ("2-prune/allocation.json", "price"),
        ("export/manifest.json", "sha256"),
        ("data.json", "classes"),
    ],
)
def test_a_record_without_a_value_is_an_error_that_names_it(folder: Path, name: str, key: str) -> None:
    record = read_json(folder / name)
    del record[key]
    write_json(folder / name, record)
    with pytest.raises(HarpError, match=f"{name} is damaged or of another version: it lacks {key}; "):
        write_report(folder)


def test_an_unknown_unit_is_an_error_that_names_the_known(folder: Path) -> None:
    change(folder / "2-prune/allocation.json", of="flops")
    with pytest.raises(HarpError, match="of: input should be 'parameters', 'macs' or 'latency', got 'flops'"):
        write_report(folder)


def test_a_model_without_a_worst_case_is_an_error(folder: Path) -> None:
    models = read_json(folder / "evaluation/results.json")["models"]
    del models["pruned"]["worst"]
    change(folder / "evaluation/results.json", models=models)
    with pytest.raises(HarpError, match=r"it lacks models\.pruned\.worst"):
        write_report(folder)
