import pytest

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.errors import RunFolderError
from twostroke.runs import About, read_weights


def read_about(file):
    return About.of_header(read_weights(file)[1], file)


def test_what_a_model_needs_comes_back_from_its_file(tmp_path):
    data = toy_data(classes=["a", "b", "c", "d"])
    about = About.of("toy", data)
    assert about.classes == ("a", "b", "c", "d")
    assert about.mean == tuple(data.train.mean.tolist())
    run = ts.RunFolder(tmp_path)
    run.save_model(toy_net(), about=about)
    assert read_about(run.model_file) == about
    assert About.of("toy", data, preprocess="gcn").mean is None


def test_files_that_do_not_say_are_refused(tmp_path):
    run = ts.RunFolder(tmp_path)
    run.save_model(toy_net())
    with pytest.raises(RunFolderError, match="does not say what its model is"):
        read_about(run.model_file)
    for text in ("", "{}", "[1]", '{"model": 3, "shape": [1]}'):
        with pytest.raises(RunFolderError, match=r"model\.safetensors says nothing sensible"):
            About.from_json(text, run.model_file)
