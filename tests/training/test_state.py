"""Every optimiser and every schedule of PyTorch goes on as if the run had not been stopped, or is refused."""

import inspect

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler as schedules

import twostroke as ts
from tests.listening import told
from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError
from twostroke.runs import RunFolder, read_tensors

QUICK = {"epochs": 3, "batch_size": 80, "probe": 8}  # two steps an epoch


class Falling:
    """A function with a state, which PyTorch keeps."""

    def __init__(self):
        self.calls = 0

    def __call__(self, step):
        self.calls += 1
        return 1 / (1 + self.calls)


SCHEDULES = {
    "LambdaLR": lambda o, n: schedules.LambdaLR(o, [Falling()]),
    "MultiplicativeLR": lambda o, n: schedules.MultiplicativeLR(o, lambda s: 0.9),
    "StepLR": lambda o, n: schedules.StepLR(o, 2),
    "MultiStepLR": lambda o, n: schedules.MultiStepLR(o, [1, 3, 3]),
    "ConstantLR": lambda o, n: schedules.ConstantLR(o, 0.5, total_iters=4),
    "LinearLR": lambda o, n: schedules.LinearLR(o, total_iters=n),
    "ExponentialLR": lambda o, n: schedules.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o, n: schedules.PolynomialLR(o, n, 2.0),
    "CosineAnnealingLR": lambda o, n: schedules.CosineAnnealingLR(o, n),
    "CosineAnnealingWarmRestarts": lambda o, n: schedules.CosineAnnealingWarmRestarts(o, 2, 2),
    "CyclicLR": lambda o, n: schedules.CyclicLR(
        o, 0.001, 0.1, 2, scale_fn=lambda x: 0.9**x, scale_mode="iterations"
    ),
    "OneCycleLR": lambda o, n: schedules.OneCycleLR(o, 0.1, total_steps=n + 1),
    "ChainedScheduler": lambda o, n: schedules.ChainedScheduler(
        [schedules.ExponentialLR(o, 0.8), schedules.MultiStepLR(o, [3])]
    ),
    "SequentialLR": lambda o, n: schedules.SequentialLR(
        o, [schedules.LinearLR(o, total_iters=2), schedules.MultiStepLR(o, [1, 2])], [3]
    ),
    "SWALR": lambda o, n: optim.swa_utils.SWALR(o, 0.01, anneal_epochs=4),
}
# those that need something else than parameters of any shape, and a gradient
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, 0.05, momentum=0.9),
    "Muon": lambda p: optim.Muon([one for one in p if one.ndim == 2], lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=torch.tensor(0.01), amsgrad=True),
}
REFUSED = {"LBFGS", "SparseAdam"}  # which `fit` cannot drive


def subclasses(module, base):
    return {
        name
        for name in module.__all__
        if inspect.isclass(found := getattr(module, name)) and issubclass(found, base)
    }


def test_none_is_forgotten():
    every = subclasses(schedules, schedules.LRScheduler) - {"LRScheduler", "ReduceLROnPlateau"}
    assert every <= SCHEDULES.keys()


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 4))


def stopped_and_resumed(folder, model=small, **options):
    """The rates and weights of a run that is stopped within its second epoch, and those of an unbroken one."""

    def stop(where):
        if (where.epoch, where.step) == (1, 1):
            raise KeyboardInterrupt

    def run(**more):
        return ts.fit(model(), toy_data(), **QUICK, **options, **more)

    whole = run()
    assert not run(folder=folder, listener=told(step=stop)).ok
    again = run(folder=folder, resume=True)
    assert any("after 1 of 2 steps" in note for note in again.notes)
    return whole, again


def equal(a, b):
    assert a.history.column("lr") == b.history.column("lr")
    assert a.history.column("loss_train") == b.history.column("loss_train")
    for p, q in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name, tmp_path):
    whole, again = stopped_and_resumed(
        tmp_path, schedule=SCHEDULES[name], optimizer=OPTIMIZERS["SGD"]
    )
    equal(whole, again)
    assert len(set(whole.history.column("lr"))) > 1


@pytest.mark.parametrize(
    "name", sorted(subclasses(optim, optim.Optimizer) - REFUSED - {"Optimizer"})
)
def test_optimisers(name, tmp_path):
    make = OPTIMIZERS.get(name, getattr(optim, name))
    equal(*stopped_and_resumed(tmp_path, optimizer=make, schedule="constant"))


def test_state_of_another_type_than_the_parameters_is_not_cast(tmp_path):
    class Double(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small().double()

        def forward(self, x):
            return self.net(x.double())

    # NAdam's product of momenta is float32 whatever the parameters are
    equal(*stopped_and_resumed(tmp_path, model=Double, optimizer=optim.NAdam))


class Holds(schedules.StepLR):
    """Keeps another scheduler as it is, as some published ones do."""

    def __init__(self, optimizer):
        self.after = schedules.StepLR(optimizer, 1)
        super().__init__(optimizer, 1)


class Remembers(optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        for one in self.param_groups[0]["params"]:
            self.state[one]["when"] = object()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": lambda o, n: Holds(o)}, r"scheduler\.after, which is a .*StepLR"),
        (
            {"optimizer": lambda p: Remembers(p, 0.1)},
            r"optimizer\.state\.0\.when, which is a .*object",
        ),
    ],
)
def test_what_no_checkpoint_can_keep_is_refused_when_the_run_starts(tmp_path, options, message):
    model = toy_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(SettingsError, match=message):
        ts.fit(model, toy_data(), folder=tmp_path, **QUICK, **options)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert ts.fit(toy_net(), toy_data(), **QUICK, **options).ok  # without a folder it is driven


class Counts(nn.Module):
    """Adds to its state how often it was called in training, and a version that it insists on."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.seen = {"calls": 0, "last": torch.zeros(())}

    def forward(self, x):
        if self.training:
            self.seen = {"calls": self.seen["calls"] + 1, "last": x.detach().mean()}
        return x

    def get_extra_state(self):
        return dict(self.seen)

    def set_extra_state(self, state):
        self.seen = state

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        assert metadata.get("version") == 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_state_that_modules_add_goes_on(tmp_path):
    def model():
        return nn.Sequential(small(), Counts())

    whole, again = stopped_and_resumed(tmp_path, model=model, ema_decay=0.5)
    assert again.model[1].seen["calls"] == whole.model[1].seen["calls"] == 6
    assert torch.equal(again.model[1].seen["last"], whole.model[1].seen["last"])
    diverged = ts.fit(model(), toy_data(), lr=1e30, schedule="constant", **QUICK)
    assert diverged.status == "diverged"
    assert diverged.model[1].seen["calls"] == 0
    RunFolder(tmp_path).save_model(whole.model)
    other = model()
    RunFolder(tmp_path).load_model(other)
    assert other[1].seen["calls"] == 6
    tensors, _ = read_tensors(tmp_path / "model.safetensors")
    assert set(dict(small().named_parameters(prefix="0"))) <= set(tensors)
