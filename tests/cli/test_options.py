"""Options of `train` and `dsd`: the command line over a file over the defaults, and what is refused."""

from dataclasses import dataclass, field, replace
from typing import Annotated

import pytest
import tomli_w

from twostroke.alternation import BatchWise, InstanceWise, Live, Plateau
from twostroke.cli.dsd import DsdConfig
from twostroke.cli.options import Flat, RunOptions, from_toml, parse, plain
from twostroke.cli.train import TrainConfig
from twostroke.errors import RunFolderError, SettingsError
from twostroke.runs import RunFolder
from twostroke.support import Energy, MajorityVote
from twostroke.training import Settings
from twostroke.training.settings import Machine

from .typed import run, words

OUT = ["--out", "a"]


def train(*arguments):
    return parse(TrainConfig, "twostroke train", [str(a) for a in arguments])


def dsd(*arguments):
    return parse(DsdConfig, "twostroke dsd", [str(a) for a in arguments])


def from_text(tmp_path, text, kind=TrainConfig):
    (tmp_path / "c.toml").write_text(text)
    return from_toml(tmp_path / "c.toml", kind)


def test_nothing_given_is_the_defaults():
    given = train(*OUT)
    assert given.settings == Settings()
    assert (given.instance, given.batch) == (InstanceWise(), BatchWise())
    assert given.kind() == Live()
    assert replace(given, out=None) == TrainConfig()
    assert replace(dsd(*OUT), out=None) == DsdConfig()


NESTED = [
    *("--alternation", "instance", "--instance.warmup", "plateau:patience=3", "--instance.gap", 5),
    *("--instance.drift", 0.1, "--instance.rule", "energy:density=0.5", "--instance.gated"),
    *("--epochs", 3, "--max-grad-norm", 5, "--ema-decay", 0.9, "--augmentation", "shift"),
]
TEXT = """
alternation = "instance"
epochs = 3
max_grad_norm = 5
ema_decay = 0.9
augmentation = "shift"

[instance]
warmup = "plateau:patience=3"
gap = 5
drift = 0.1
rule = "energy:density=0.5"
gated = true
"""


def test_a_command_line_and_a_file_say_the_same(tmp_path):
    typed, read = train(*OUT, *NESTED), from_text(tmp_path, TEXT)
    for given in (typed, read):
        assert given.settings == Settings(epochs=3, max_grad_norm=5.0, ema_decay=0.9)
        assert given.augmentation == "shift"
        kind = given.kind()
        assert isinstance(kind, InstanceWise)
        assert (kind.warmup, kind.gap, kind.drift, kind.gated) == (
            Plateau(patience=3),
            5,
            0.1,
            True,
        )
        assert isinstance(kind.rule, Energy)
        assert kind.rule.density == 0.5
    assert plain(typed) == plain(read)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        NESTED,
        ["--alternation", "batch", "--batch.rule", "majority-vote:beta=0.5", "--batch.warmup", 1],
        ["--alternation", "batch", "--batch.density", 0.3, "--batch.no-gated", "--channels-last"],
        ["--alternation", "instance", "--instance.drift", "None", "--instance.plateau", "plateau"],
        ["--instance.warmup", 4, "--optimizer", "muon", "--target-error", 3, "--data-root", "x"],
    ],
)
def test_what_is_written_of_a_run_repeats_it(tmp_path, arguments):
    given = train(*OUT, *arguments)
    again = from_text(tmp_path, tomli_w.dumps(plain(given)))
    assert plain(again) == plain(given)
    assert again.settings == given.settings
    assert again.data_root == given.data_root
    if "majority-vote:beta=0.5" in arguments:
        assert isinstance(again.batch.rule, MajorityVote)
        assert again.batch.rule.beta == 0.5
    elif "energy:density=0.5" not in arguments:  # rules compare by identity
        assert (again.instance, again.batch) == (given.instance, given.batch)


def test_paths_of_data_are_told_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = plain(train(*OUT, "--data", "folder:pictures", "--data-root", "root"))
    assert told["data"] == f"folder:{tmp_path / 'pictures'}"
    assert told["data_root"] == str(tmp_path / "root")
    (tmp_path / "w.safetensors").touch()
    assert plain(dsd(*OUT, "--weights", "w.safetensors"))["weights"] == f"{tmp_path}/w.safetensors"
    (tmp_path / "timm").mkdir()  # the word means published weights
    assert plain(train(*OUT, "--weights", "timm"))["weights"] == "timm"
    monkeypatch.chdir("/")
    assert plain(from_text(tmp_path, tomli_w.dumps(told))) == told


def test_what_is_written_of_dsd_repeats_it(tmp_path):
    given = dsd(*OUT, "--epochs", 1, 2, 3, "--lrs", 0.1, 0.01, 0.001, "--seed", 7, "--ratio", 0.5)
    assert given.machine == Machine(seed=7)
    assert (given.epochs, given.lrs) == ((1, 2, 3), (0.1, 0.01, 0.001))
    again = from_text(tmp_path, tomli_w.dumps(plain(given)), DsdConfig)
    assert again == replace(given, out=None)


@dataclass(frozen=True, kw_only=True)
class OwnDefaults(RunOptions):
    """Options of a command whose groups do not begin with the defaults of their classes."""

    settings: Annotated[Settings, Flat] = field(default_factory=lambda: Settings(optimizer="muon"))
    instance: InstanceWise = field(default_factory=lambda: InstanceWise(gap=9, drift=None))


def test_a_file_leaves_a_commands_own_defaults(tmp_path):
    read = from_text(tmp_path, "seed = 3\n[instance]\nchecks = 1", OwnDefaults)
    assert read.settings == Settings(optimizer="muon", seed=3)
    assert read.instance == InstanceWise(gap=9, drift=None, checks=1)
    assert from_text(tmp_path, tomli_w.dumps(plain(read)), OwnDefaults) == read


def test_the_command_line_stands_over_the_file(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(
        "epochs = 7\nmomentum = 0.5\nchannels_last = true\nema_decay = 0.9\n"
        "[instance]\ngap = 9\nchecks = 1\n"
    )
    given = train(
        *("--config", file, *OUT, "--epochs", 1, "--momentum", 0.9, "--no-channels-last"),
        *("--alternation", "instance", "--instance.gap", 2),
    )  # some of these are defaults
    assert given.settings == Settings(epochs=1, ema_decay=0.9)
    assert given.instance == InstanceWise(gap=2, checks=1)


def test_learning_rate_and_decay_are_left_to_the_optimizer(tmp_path):
    given = plain(train(*OUT, "--optimizer", "muon"))
    assert given["optimizer"] == "muon"
    assert not {"lr", "weight_decay", "out", "config", "resume"} & given.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochz = 3", "no option 'epochz', did you mean 'epochs'?"),
        ('epochs = "three"', "epochs is 'three', where a whole number is wanted"),
        ("epochs = 2.5", "epochs is 2.5, where a whole number is wanted"),
        ("epochs = true", "epochs is True, where a whole number is wanted"),
        ("channels_last = 1", "channels_last is 1, where true or false is wanted"),
        ("data_root = 3", "data_root is 3, where a path in quotes is wanted"),
        ('lr = "fast"', "lr is 'fast', where a number is wanted"),
        ('alternation = "both"', "where one of none, instance, batch is wanted"),
        ("epochs = ", "is not a TOML file"),
        ("lr = -1.0", "lr is a learning rate above 0"),
        ('optimizer = "moun"', "did you mean 'muon'?"),
        ("instance = 3", "instance is a table, [instance], not 3"),
        ("[instance]\ngpa = 3", "no option 'instance.gpa', did you mean 'instance.gap'?"),
        ("[instance]\ngap = 0", "gap is a number of epochs"),
        ('[instance]\nwarmup = "soon"', "instance.warmup: there is no value 'soon'"),
        ('[instance]\nstore = "disk"', "there is no store 'disk'"),
        ("[batch]\nepochs = 3", "no option 'batch.epochs'"),
        ("[batch]\ndensity = 2", "density is a share of units"),
        ("[settings]\nepochs = 3", "no option 'settings'"),
    ],
)
def test_a_bad_file_is_named_with_the_option(tmp_path, text, message):
    with pytest.raises((SettingsError, RunFolderError)) as error:
        from_text(tmp_path, text)
    assert message in str(error.value)
    assert "c.toml" in str(error.value)


def test_a_near_match_is_one_of_this_command(tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'ratio'"):
        from_text(tmp_path, "ratia = 0.3", DsdConfig)
    with pytest.raises(SettingsError) as error:  # what dsd alone has
        from_text(tmp_path, "ratio = 0.3")
    assert "no option 'ratio'" in str(error.value)
    assert "did you mean 'ratio'" not in str(error.value)
    with pytest.raises(SettingsError) as error:  # and what train alone has
        from_text(tmp_path, "[instance]\ngap = 1", DsdConfig)
    assert "no option 'instance'" in str(error.value)
    assert "did you mean 'instance'" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochz", 3], "Perhaps you meant: --epochs"),
        (["train", "--warmup", 1], "--instance.warmup"),
        (["train", "--preset", "fast"], "Unrecognized options: --preset"),
        (["train", "--alternation", "both"], "invalid choice 'both'"),
        (["train", "--lr", "fast"], "--lr"),
        (["train", "--instance.warmup", "soon"], "no value 'soon': there are plateau, a number"),
        (["train", "--instance.gap", 0], "gap is a number of epochs, 1 or more, not 0"),
        (["train", "--batch.density", 2], "density is a share of units above 0, up to 1, not 2.0"),
        (["train", "--batch.rule", "energie"], "did you mean 'energy'?"),
        (["dsd", "--instance.gap", 2], "Unrecognized options: --instance.gap"),
        (["dsd", "--epochs", 1, 2], "--epochs"),
        (["dsd", "--seed", "x"], "--seed"),
    ],
)
def test_a_bad_command_line_is_told_by_the_option(capsys, arguments, message):
    command, *rest = arguments
    code, out, err = run(capsys, command, *OUT, *rest)
    assert code == 2
    assert message in words(out + err)


@pytest.mark.parametrize(
    ("alternation", "option", "message"),
    [
        ("none", "--instance.gap", "options --instance... belong to --alternation instance"),
        ("none", "--batch.warmup", "options --batch... belong to --alternation batch"),
        ("batch", "--instance.gap", "and this run has --alternation batch"),
        ("instance", "--batch.warmup", "and this run has --alternation instance"),
    ],
)
def test_options_of_another_alternation_are_refused(alternation, option, message):
    with pytest.raises(SettingsError) as error:
        train(*OUT, "--alternation", alternation, option, 3).kind()
    assert message in str(error.value)
    default = 2 if option == "--instance.gap" else 0  # which changes nothing
    assert train(*OUT, "--alternation", alternation, option, default).kind()


def test_ratio_and_price_belong_to_their_masks():
    assert dsd(*OUT, "--ratio", 0.5).weight_mask().ratio == 0.5
    assert dsd(*OUT, "--mask", "batch-units", "--price", 0.5).weight_mask().price == 0.5
    with pytest.raises(SettingsError, match="--ratio belongs to --mask magnitude"):
        dsd(*OUT, "--mask", "none", "--ratio", 0.5).weight_mask()
    with pytest.raises(SettingsError, match="--price belongs to connections and units"):
        dsd(*OUT, "--price", 0.5).weight_mask()


@pytest.fixture
def kept(tmp_path):
    """The folder of a run that held supports."""
    given = train(*OUT, *NESTED)
    folder = RunFolder.create(tmp_path / "kept", {"command": "train"} | plain(given)).path
    (folder / "checkpoint.safetensors").touch()
    return folder


def test_resume_takes_the_runs_options_and_those_that_are_equal(kept):
    given = train("--resume", kept)
    assert plain(given) == plain(train(*OUT, *NESTED))
    assert given.resume == kept
    assert plain(train(f"--resume={kept}", *NESTED)) == plain(given)
    assert plain(train("--resume", kept, "--epochs", 3, "--lr", "None")) == plain(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", 0.5], "lr = left out, not 0.5: that may change where a run has diverged"),
        (["--ema-decay", "None"], "ema_decay = 0.9, not left out: go on with the settings"),
        (["--augmentation", "none"], "augmentation = 'shift', not 'none'"),  # the default
        (["--instance.gap", 2], "instance.gap = 5, not 2"),
        (["--instance.drift", "None"], "instance.drift = 0.1, not 'none'"),
        (["--batch.density", 0.5], "batch.density = left out, not 0.5"),
        (["--alternation", "batch"], "alternation = 'instance', not 'batch'"),
        (["--out", "b"], "leave --out out"),
        (["--config", "c.toml"], "leave --config out"),
    ],
)
def test_resume_refuses_an_option_that_differs_by_name(kept, arguments, message):
    with pytest.raises((SettingsError, RunFolderError)) as error:
        train("--resume", kept, *arguments)
    assert message in str(error.value)


def test_a_file_of_another_command_is_refused(kept, tmp_path):
    with pytest.raises(
        SettingsError, match="options of `twostroke train`, and this is `twostroke dsd`"
    ):
        dsd("--config", kept / "config.toml", *OUT)
    assert plain(train("--config", kept / "config.toml", *OUT)) == plain(train(*OUT, *NESTED))


def test_resume_takes_options_that_may_change(kept):
    given = train("--resume", kept, "--epochs", 10, "--device", "cpu")
    assert (given.settings.epochs, given.settings.device) == (10, "cpu")
    assert given.instance.gap == 5
    (kept / "diverged.txt").write_text("in epoch 3")
    assert train("--resume", kept, "--lr", 0.5).settings.lr == 0.5
    assert train("--resume", kept, "--instance.gap", 1).instance.gap == 1
    with pytest.raises(RunFolderError, match="since it diverged lr, max_grad_norm"):
        train("--resume", kept, "--batch-size", 30)


def test_resume_by_the_other_command_and_of_no_run(kept, tmp_path):
    with pytest.raises(SettingsError, match=r"holds a run of `twostroke train`: go on with it by"):
        dsd("--resume", kept)
    with pytest.raises(RunFolderError, match=r"no run 'kep', did you mean 'kept'\?"):
        train("--resume", tmp_path / "kep")
