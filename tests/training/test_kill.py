"""A run that is killed, at whatever moment, and resumed ends with the bits of one never killed."""

import os
import signal

import pytest

from tests.listening import told as listening
from twostroke import _files
from twostroke.runs import files
from twostroke.store import FileStore, rounds
from twostroke.training.loop import Loop

from .faults import die_at, in_a_child, run, told

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="killing needs a forked process")

# in this order, each in the run that the one before left behind: (what, where, which call, after it?)
MOMENTS = {
    "in the warm-up": (Loop, "cast", 7, False),
    "before the first checkpoint": (files, "save_file", 1, False),
    "with the first checkpoint written, not in place": (files, "save_file", 1, True),
    "in the first support stroke": (rounds.RoundWriter, "write", 1, True),
    "before a round is in place": (rounds, "put", 1, False),
    "before the checkpoint of a round in place": (rounds, "put", 1, True),
    "in a weight stroke": (Loop, "cast", 18, False),
    "with a checkpoint in place and the old round not deleted": (FileStore, "settle", 2, False),
    "while a checkpoint takes its place": (_files, "put", 1, False),
}


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    return {
        refresh: told(run(tmp_path_factory.mktemp(refresh), refresh=refresh, store="file"))
        for refresh in ("sweep", "online")
    }


@pytest.mark.parametrize(
    ("refresh", "store"),
    [("sweep", "file"), ("online", "file"), ("sweep", "host")],
)
def test_killed_and_resumed_it_ends_the_same(never_killed, tmp_path, refresh, store):
    for moment, (owner, name, nth, after) in MOMENTS.items():
        if store == "host" and owner not in (Loop, files, _files):
            continue

        def dies(owner=owner, name=name, nth=nth, after=after):
            die_at(owner, name, nth, after=after)
            run(tmp_path, refresh=refresh, store=store)

        assert in_a_child(dies) == signal.SIGKILL, moment
    result = run(tmp_path, refresh=refresh, store=store)
    assert told(result) == never_killed[refresh]
    names = sorted(p.name for p in tmp_path.iterdir())
    last = result.history[-1].round
    kind = "store" if store == "file" else "safetensors"
    assert names == ["checkpoint.safetensors", f"support-{last}.{kind}"]


@pytest.mark.parametrize(("before", "after"), [("file", "host"), ("host", "file")])
def test_a_run_may_go_on_with_another_kind_of_store(never_killed, tmp_path, before, after):
    def stops(where):
        if where.epoch == 4:
            raise KeyboardInterrupt

    run(tmp_path, refresh="sweep", store=before, listener=listening(step=stops))
    result = run(tmp_path, refresh="sweep", store=after)
    assert "a file" in result.notes[0] or after == "host"
    assert told(result) == never_killed["sweep"]
    kind = "store" if after == "file" else "safetensors"
    last = result.history[-1].round
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint.safetensors",
        f"support-{last}.{kind}",
    }
