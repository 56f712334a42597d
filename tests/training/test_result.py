import math

import twostroke as ts
from tests.toy import toy_record
from twostroke.runs import History
from twostroke.training import FitResult
from twostroke.training.result import divergence


def test_every_status_carries_advice_and_a_run_without_epochs_has_no_error():
    for status in ts.Status:
        result = FitResult(status=status, model=None, history=History())
        assert len(result.advice) > 10
        assert result.message == f"{status}: {result.advice}"
    assert math.isnan(result.error)
    assert "max_grad_norm" in FitResult(status="diverged", model=None, history=History()).advice


def test_a_run_has_diverged_by_the_loss_that_it_descends_on():
    begun = History([toy_record(phase="live", round=0, loss_live=2.0)])
    fine = {"loss_train": 1.0, "loss_live": 1.0, "round": 1}

    def told(before=begun, **values):
        return divergence(toy_record(**(fine | values)), before, first=2.3)

    assert told(phase="live") is None
    # batch norm's running statistics lag in evaluation mode: no sign by itself
    assert told(phase="live", loss_live=90.0) is None
    assert "the loss is 12" in told(phase="live", loss_train=12.0)
    assert "undefined" in told(phase="live", loss_live=math.nan)
    assert told(phase="held", loss_live=11.0) is None
    assert "the live loss is 12" in told(phase="held", loss_live=12.0)
    # what it was already when the masks were found has not grown under them
    lagging = History([toy_record(phase="live", round=0, loss_live=90.0)])
    assert told(lagging, phase="held", loss_live=100.0) is None
    assert "more than 5 × 90" in told(lagging, phase="held", loss_live=500.0)
    # within a round, the loss of its beginning counts, not that of its last epoch
    lagging.append(toy_record(phase="held", round=1, loss_live=200.0))
    assert "more than 5 × 90" in told(lagging, phase="held", loss_live=500.0)
    assert told(History(), phase="held", loss_live=11.0) is None
