import pytest

from twostroke.cli import main


def run(capsys, *arguments):
    code = 0
    try:
        main(["plan", *(str(a) for a in arguments)])
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, " ".join(out.split()), err


IMAGENET = ["--model", "resnet18", "--examples", 1281167]


def test_a_plan_names_bytes_passes_and_the_bottleneck(capsys):
    code, out, _ = run(capsys, *IMAGENET, "--processes", 32)
    assert code == 0
    assert "289 kB" in out  # 2,308,096 units
    assert "370 GB" in out
    assert "44 │ passes over the data" in out
    assert "fit beside the model in device memory" in out
    assert "Computing is the bottleneck" in out


def test_little_memory_sends_supports_to_the_host_or_to_disk(capsys):
    small = [*IMAGENET, "--processes", 32, "--device-memory", 16]
    assert "in host memory (store 'host')" in run(capsys, *small)[1]
    out = run(capsys, *small, "--host-memory", 64)[1]
    assert "go to disk (store 'file')" in out
    assert "The disk is the bottleneck" in out
    assert (
        "Computing is the bottleneck" in run(capsys, *small, "--host-memory", 64, "--disk", 90)[1]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet81", "--examples", 9], "did you mean resnet18"),
        (["--model", "allcnn-c", "--examples", 999, "--image", 3], "9 x 9 or more"),
        (["--model", "allcnn-c", "--examples", 999, "--image", 0], "--image"),
        ([*IMAGENET, "--disk", 0], "disk must be above 0"),
        ([*IMAGENET, "--batch-size", 8, "--processes", 9], "--batch-size 8"),
        (["--model", "vit_b_16", "--examples", 999], "gelu"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") <= 3
