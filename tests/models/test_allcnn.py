import itertools

import pytest
import torch
from torch import nn

from twostroke.errors import SettingsError
from twostroke.models.allcnn import BLOCKS, VARIANTS, AllCNN

EVERY = list(itertools.product(BLOCKS, VARIANTS))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def of_convs(*layers):
    """Parameters of convolutions given as (kernel, in, out), biases included."""
    return sum(k * k * i * o + o for k, i, o in layers)


HEAD = ((3, 192, 192), (1, 192, 192), (1, 192, 10))
BASE = {
    "a": of_convs((5, 3, 96), (5, 96, 192), *HEAD),
    "b": of_convs((5, 3, 96), (1, 96, 96), (5, 96, 192), (1, 192, 192), *HEAD),
    "c": of_convs((3, 3, 96), (3, 96, 96), (3, 96, 192), (3, 192, 192), *HEAD),
}
EXTRA = of_convs((3, 96, 96), (3, 192, 192))


@pytest.mark.parametrize(
    ("size", "variant", "classes", "count"),
    [
        ("a", "base", 10, 839_242),
        ("b", "base", 10, 885_610),
        ("c", "base", 10, 954_730),
        ("a", "allcnn", 10, 1_254_250),
        ("b", "allcnn", 10, 1_300_618),
        ("c", "allcnn", 10, 1_369_738),
        ("c", "base", 100, 972_100),
        ("c", "allcnn", 100, 1_387_108),
        *((size, "strided", 10, BASE[size]) for size in BLOCKS),
        *((size, "convpool", 10, BASE[size] + EXTRA) for size in BLOCKS),
    ],
)
def test_parameter_counts(size, variant, classes, count):
    with torch.device("meta"):
        assert parameters(AllCNN(size, variant, classes=classes)) == count


@pytest.mark.parametrize(("size", "variant"), EVERY)
def test_shapes_of_the_blocks(size, variant):
    with torch.device("meta"):
        model = AllCNN(size, variant, in_channels=1, classes=7)
        for side in (32, 28, 9):  # all variants alike, odd sizes too
            x = torch.zeros(2, 1, side, side + 1)
            first = model.block1(x)
            half, quarter = (side + 1) // 2, (side + 3) // 4
            assert first.shape == (2, 96, half, (side + 2) // 2)
            assert model.block2(first).shape[:3] == (2, 192, quarter)
            assert model.head(model.block2(first)).shape[:3] == (2, 7, quarter - 2)
            assert model(x).shape == (2, 7)


@pytest.mark.parametrize(("size", "variant"), EVERY)
def test_only_base_and_convpool_pool(size, variant):
    with torch.device("meta"):
        modules = list(AllCNN(size, variant).modules())
    pools = sum(isinstance(m, nn.MaxPool2d) for m in modules)
    strides = [m.stride for m in modules if isinstance(m, nn.Conv2d)].count((2, 2))
    assert (pools, strides) == ((2, 0) if variant in ("base", "convpool") else (0, 2))


def test_strided_strides_the_last_convolution_of_a_block():
    with torch.device("meta"):
        block = AllCNN("b", "strided").block1
    convs = [m for m in block if isinstance(m, nn.Conv2d)]
    assert [(c.kernel_size[0], c.stride[0]) for c in convs] == [(5, 1), (1, 2)]


def test_dropout_as_published_and_as_asked():
    def rates(**options):
        with torch.device("meta"):
            return [m.p for m in AllCNN(**options).modules() if isinstance(m, nn.Dropout)]

    assert rates() == [0.2, 0.5, 0.5]
    assert rates(input_dropout=0, dropout=0.1) == [0, 0.1, 0.1]


def test_final_relu_is_off_unless_asked_for():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 9, 9)
    plain = AllCNN("a").eval()
    clipped = AllCNN("a", final_relu=True).eval()
    clipped.load_state_dict(plain.state_dict())
    assert plain(x).min() < 0
    # at 9 x 9 the average is over one place, so the ReLU acts on the logits themselves
    torch.testing.assert_close(clipped(x), plain(x).relu())


def test_batch_norm_takes_the_bias_but_spares_the_logits():
    with torch.device("meta"):
        model = AllCNN("c", batch_norm=True)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [c.bias is None for c in convs] == [True] * 8 + [False]
    assert [n.num_features for n in norms] == [c.out_channels for c in convs[:-1]]


def test_he_initialisation():
    torch.manual_seed(0)
    for layer in AllCNN("c").modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
            assert not layer.bias.any()


def test_too_small_an_image_is_refused_by_its_size():
    model = AllCNN("a").eval()
    with pytest.raises(SettingsError, match="9 x 9 or more, not 8 x 32"):
        model(torch.zeros(1, 3, 8, 32))


def test_other_errors_of_the_forward_pass_stay_as_they_are():
    model = AllCNN("a").eval()
    model.head[0] = nn.Conv2d(5, 192, 3)
    with pytest.raises(RuntimeError, match="channels"):
        model(torch.zeros(1, 3, 12, 12))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": "d"}, "size must be one of a, b, c, not 'd'"),
        ({"variant": "pool"}, "variant must be one of base, .*, not 'pool'"),
        ({"classes": 0}, "classes must be 1 or more, not 0"),
        ({"in_channels": -1}, "in_channels must be 1 or more, not -1"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, not 1\.0"),
        ({"input_dropout": -0.1}, "input_dropout must be"),
    ],
)
def test_refused(options, text):
    with pytest.raises(SettingsError, match=text):
        AllCNN(**options)
