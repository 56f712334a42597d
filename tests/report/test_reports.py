"""`report.html` of a small run: whole, well-formed, and of itself enough."""

import re
import shutil
from xml.etree import ElementTree

import pytest
import torch

import twostroke as ts
from tests.toy import toy_data, toy_net, toy_record
from twostroke.errors import RunFolderError
from twostroke.report import Answers, write_report
from twostroke.report.confusion import confusion_counts
from twostroke.report.curves import curves, of_run
from twostroke.report.figure import svg
from twostroke.report.reports import mistakes
from twostroke.runs import History, RunFolder
from twostroke.training import evaluate

CLASSES = ["a & b", "<script>alert(1)</script>", "$c_1$", "d"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three epochs, two of them held, and its report."""
    folder = RunFolder.create(
        tmp_path_factory.mktemp("run") / "a", {"model": "toy", "data": "four <corners>"}
    )
    net, data = toy_net(), toy_data(classes=CLASSES)
    alternation = ts.InstanceWise(warmup=1, gap=1)
    result = ts.fit(net, data, alternation=alternation, epochs=3, batch_size=40, lr=0.05)
    folder.save_history(result.history)
    Answers.of(net, data.test, told=["80 toys & co", result.message]).save(folder.answers_file)
    write_report(folder)
    return folder, net, data, result


def tree(page):
    """The page as a tree: it is XML too, so that what is not closed shows."""
    return ElementTree.fromstring(page.read_text())


def test_a_page_is_well_formed_and_has_everything(run):
    folder, *_ = run
    page = tree(folder.report_file)
    title = page.find("head/title").text
    assert title == "a: toy on four <corners>"
    heads = ["".join(e.itertext()) for tag in ("h2", "summary") for e in page.iter(tag)]
    assert heads == [
        *(
            "Learning",
            "What it gets wrong",
            "Sites",
            "Every epoch",
            "Settings",
            "Software and machine",
        )
    ]
    svg = "{http://www.w3.org/2000/svg}"
    figures = {figure.get("aria-label"): figure for figure in page.iter(f"{svg}svg")}
    assert list(figures) == [
        *("loss by epoch", "error (%) by epoch", "share of the units (%) by epoch"),
        "which class is answered where which is right",
        *("density by site and epoch", "drift by site and epoch"),
    ]
    tips = [tip.text for tip in figures["loss by epoch"].iter(f"{svg}title")]
    assert [tip.splitlines()[0] for tip in tips] == ["epoch 1", "epoch 2", "epoch 3"]
    assert "training, mean of the epoch's steps: " in tips[0]
    assert "the same under held masks: " in tips[2]
    words = {text.text for figure in figures.values() for text in figure.iter(f"{svg}text")}
    assert {"loss, log scale", "drift (%)", "2#0", "a & b", "<script>alert(1)<…", "$c_1$"} <= words
    told = "".join(page.find("body").itertext())
    assert "80 toys & co" in told
    assert "67 % of the steps under held masks" in told
    assert "four <corners>" in told


def test_a_page_needs_no_network_and_runs_nothing(run):
    text = run[0].report_file.read_text()
    used = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')>\s]+)""", text)
    assert used
    assert all(address.startswith(("data:", "#")) for address in used)
    assert not re.search(r"<(script|iframe|object|embed)\b|@import|\son\w+=", text)
    assert len(text) < 300_000
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_dark_and_light_pages_have_the_same_names_of_colours(run):
    text = run[0].report_file.read_text()
    light, dark = re.findall(r":root \{(.*?)\}", text, flags=re.DOTALL)
    assert re.findall(r"--\w+", light) == re.findall(r"--\w+", dark)
    assert "prefers-color-scheme: dark" in text
    assert "#000000" not in text


def test_answers_are_those_of_an_evaluation_and_come_back_as_they_were(run):
    folder, net, data, result = run
    kept = Answers.load(folder.answers_file)
    assert (
        kept.error == pytest.approx(evaluate(net, data.test).error) == pytest.approx(result.error)
    )
    again = Answers.of(net, data.test, told=kept.told, batch_size=7)
    assert torch.equal(kept.answers, again.answers)
    assert torch.allclose(kept.sure, again.sure)
    _, y = data.test.batch(torch.arange(80))
    assert torch.equal(kept.labels, y)
    wrong = (kept.answers != y).nonzero().flatten()
    assert sorted(kept.worst.tolist()) == wrong.tolist()  # all of them, being few
    assert kept.sure[kept.worst].diff().le(0).all()
    assert kept.pictures.shape == (len(wrong), 1, 6, 6)
    counts = confusion_counts(kept.answers, y, 4)
    assert int(counts.sum() - counts.trace()) == len(wrong)
    assert kept.classes == tuple(CLASSES)
    assert kept.told == ("80 toys & co", result.message)


def test_pictures_are_as_bright_as_the_images_and_not_large():
    x = torch.randint(256, (8, 3, 120, 60), dtype=torch.uint8)
    y = torch.arange(8) % 2
    data = ts.data.from_tensors(x, y, x, y)
    net = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2)
    )
    kept = Answers.of(net, data.test)
    assert kept.pictures.shape[1:] == (3, 96, 48)
    whole = x[kept.worst].float().mean((2, 3))
    assert torch.allclose(kept.pictures.float().mean((2, 3)), whole, atol=3)


def test_it_can_be_made_again_without_what_is_missing(run, tmp_path):
    folder, *_ = run
    copy = RunFolder(shutil.copytree(folder.path, tmp_path / "a"))
    for file in (copy.answers_file, copy.sites_file, copy.versions_file, copy.config_file):
        file.unlink()
    write_report(copy)
    page = tree(copy.report_file)
    assert [head.text for head in page.iter("h2")] == ["Learning"]
    assert page.find("head/title").text == "a: a run"
    copy.save_history(History())
    write_report(copy)
    assert "No epoch was completed." in copy.report_file.read_text()
    copy.answers_file.write_bytes(b"no")
    with pytest.raises(RunFolderError, match=r"answers\.safetensors"):
        write_report(copy)
    with pytest.raises(RunFolderError, match="no such folder"):
        write_report(RunFolder(tmp_path / "nowhere"))


def test_a_long_run_stays_small_and_many_classes_are_numbered(tmp_path):
    history = History(toy_record(epoch=k, round=k) for k in range(1, 251))
    text = svg(curves(of_run(history)[2:]), "shares")
    assert text.count('class="tip"') == 84  # every third epoch
    many = tuple(f"class {k}" for k in range(30))
    y = torch.arange(60) % 30
    answers = Answers(y.flip(0), y, torch.rand(60), y[:0], torch.zeros(0, 1, 1, 1), many)
    part = mistakes(answers)
    assert "numbered in the picture" in part.text
    assert "class 3" not in part.figures[0]
    assert part.sheets[0].rows[0] == ("class 0", "class 29", "2")


@pytest.mark.nightly
def test_a_browser_finds_nothing_to_complain_of(run):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright and a Chromium")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs a Chromium")
    said = []
    with sync_api.sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for scheme, background in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 29)")):
            for width in (1280, 390):
                page = chrome.new_page(
                    viewport={"width": width, "height": 800}, color_scheme=scheme
                )
                page.on("console", lambda message: said.append(message.text))
                page.on("pageerror", lambda error: said.append(str(error)))
                page.on("request", lambda asked: said.append(asked.url))
                page.goto(run[0].report_file.as_uri())
                assert (
                    page.evaluate("getComputedStyle(document.body).backgroundColor") == background
                )
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                sizes = page.evaluate(
                    "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width)"
                )
                assert len(sizes) == 6
                assert min(sizes) > 200
                box = page.locator(".tip path").nth(1).bounding_box()
                place = [
                    box[side] + box[size] / 2 for side, size in (("x", "width"), ("y", "height"))
                ]
                page.mouse.move(*place)
                pointed = page.evaluate("document.querySelector('.tip:hover title').textContent")
                assert pointed.startswith("epoch 2")
                page.close()
        chrome.close()
    assert all(text.startswith(("file:", "data:")) for text in said), said
