import pytest
import torch

from hyperrec_core import losses

GENERATOR = torch.Generator().manual_seed(3)


def plain_wmrb(positive, negative, excluded, list_size):
    violation = (1.0 + negative - positive.unsqueeze(1)).clamp_min(0.0)
    rank = list_size * violation.masked_fill(excluded, 0.0).mean(1)
    return torch.log(1.0 + rank).mean()


def plain_bpr(positive, negative, excluded, list_size):
    pairs = -torch.log(torch.sigmoid(positive.unsqueeze(1) - negative))
    return pairs.masked_fill(excluded, 0.0).mean()


def plain_softmax(positive, negative, excluded, list_size):
    weights = negative.exp().masked_fill(excluded, 0.0).mean(1) * list_size
    return -torch.log(positive.exp() / (positive.exp() + weights)).mean()


PLAIN = {"wmrb": plain_wmrb, "bpr": plain_bpr, "softmax": plain_softmax}


@pytest.mark.parametrize("some_excluded", [True, False])
@pytest.mark.parametrize("name", PLAIN)
def test_loss_and_derivatives_equal_autograd_on_the_plain_formula(name, some_excluded):
    positive = torch.randn(9, generator=GENERATOR, dtype=torch.float64).requires_grad_()
    negative = (2 * torch.randn(9, 31, generator=GENERATOR, dtype=torch.float64)).requires_grad_()
    excluded = torch.rand(9, 31, generator=GENERATOR) < (0.3 if some_excluded else -1.0)
    loss = PLAIN[name](positive, negative, excluded, 20.0)
    by_positive, by_negative = torch.autograd.grad(loss, (positive, negative))
    settings = {} if name == "bpr" else {"list_size": 20.0}
    found = getattr(losses, name)(
        positive.detach(),
        negative.detach().clone(),
        excluded=excluded if some_excluded else None,
        **settings,
    )
    torch.testing.assert_close(found.loss, loss.detach())
    torch.testing.assert_close(found.positive, by_positive)
    torch.testing.assert_close(found.negative, by_negative)


@pytest.mark.parametrize("name", PLAIN)
def test_scores_of_any_size_stay_finite(name):
    positive = torch.tensor([-500.0, 500.0, 0.0])
    negative = torch.tensor([[500.0, -500.0], [-500.0, 500.0], [0.0, 0.0]])
    found = getattr(losses, name)(positive, negative, excluded=torch.zeros(3, 2).bool())
    for tensor in found:
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", PLAIN)
def test_an_example_without_negatives_does_not_pull(name):
    found = getattr(losses, name)(
        torch.tensor([1.0, 2.0]),
        torch.tensor([[5.0, 5.0], [5.0, 5.0]]),
        excluded=torch.tensor([[True, True], [False, False]]),
    )
    assert found.positive[0] == 0
    assert (found.negative[0] == 0).all()
    assert found.positive[1] < 0


def test_wmrb_is_the_papers_when_the_list_is_as_long_as_the_sample():
    positive, negative = torch.tensor([2.0]), torch.tensor([[1.5, 0.0, 3.0]])
    found = losses.wmrb(positive, negative, list_size=3)
    torch.testing.assert_close(found.loss, torch.log1p(torch.tensor(0.5 + 0.0 + 2.0)))
