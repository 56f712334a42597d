import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twostroke.report.confusion import confusion_counts, confusion_figure, worst_pairs

classes = st.integers(2, 5)


@given(classes.flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=30)))
def test_counts_are_those_of_a_loop(pairs):
    slow = torch.zeros(5, 5, dtype=torch.int64)
    for answer, label in pairs:
        slow[label, answer] += 1
    answers, labels = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).unbind(1)
    counts = confusion_counts(answers, labels, 5)
    assert torch.equal(counts, slow)
    wrong = sorted(
        ((int(slow[a, b]), a, b) for a in range(5) for b in range(5) if a != b), reverse=True
    )
    found = worst_pairs(counts, 3)
    assert [n for *_, n in found] == [n for n, *_ in wrong[:3] if n]
    assert all(slow[a, b] == n and a != b for a, b, n in found)


@pytest.mark.parametrize("size", [2, 20, 21])
def test_names_and_counts_while_there_is_room(size):
    counts = torch.arange(size * size).view(size, size)
    figure = confusion_figure(counts, [f"<{k}>" for k in range(size)])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    written = [text.get_text() for text in axes.texts]
    assert written == ([str(k) for k in range(1, size * size)] if size <= 20 else [])
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert ("<1>" in ticks) == (size <= 20)
    shown = axes.images[0].get_array()
    assert shown[1].sum() == pytest.approx(1)  # a row is what its class became
