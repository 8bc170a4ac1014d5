"""What each stage trains and what it leaves alone, tensor by tensor (METHODS 1.4)."""

import pytest
import torch

from harp.runs import load_tree
from harp.stages import run_stages
from tests.tiny import workspace

WEIGHTS = {"0.weight", "3.weight", "7.weight", "12.weight", "14.weight"}
BIASES = {"12.bias", "14.bias"}
NORMS = {f"{layer}.{own}" for layer in (1, 4, 8) for own in ("weight", "bias")}
STATISTICS = {f"{layer}.{own}" for layer in (1, 4, 8) for own in ("running_mean", "running_var", "num_batches_tracked")}
EVERYTHING = WEIGHTS | BIASES | NORMS | STATISTICS


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    work = workspace(folder)
    run_stages(work, ["pretrain"])
    return work.model().state_dict(), folder / "1-pretrain" / "model.safetensors"


def pruned(tmp_path, source, **settings):
    run_stages(workspace(tmp_path, prune={"source": str(source), **settings}), ["prune", "finetune"])
    files = ("2-prune/model", "2-prune/learned", "2-prune/masks", "3-finetune/model")
    return [load_tree(tmp_path / f"{name}.safetensors") for name in files]


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_pretraining_trains_everything(dense):
    first, path = dense
    assert changed(first, load_tree(path)) == EVERYTHING


# In the tiny stages magnitude may keep its order, so what is asserted is the scores themselves.
@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({"method": "harp"}, ("scores", "logits")),
        ({"method": "harp", "options": {"mode": "exact"}}, ("scores", "logits")),
        ({"method": "scores-only"}, ("scores",)),
        ({"method": "hydra"}, ("scores",)),
        ({"method": "rates-only"}, ("logits",)),
        ({"method": "rates-only", "options": {"mode": "exact"}}, ("logits",)),
    ],
    ids=str,
)
def test_pruning_trains_scores_rates_and_norms_and_leaves_the_weights(dense, tmp_path, settings, trained):
    _, path = dense
    before = load_tree(path)
    model, learned, masks, tuned = pruned(tmp_path, path, **settings)
    assert changed({name: before[name] for name in WEIGHTS}, learned["dense"]) == set()
    # The model holds the weights that are left, bit for bit, and zeros; biases are as they were.
    for name in WEIGHTS:
        assert torch.equal(model[name], before[name].masked_fill(~masks[name], 0))
    assert changed(before, model) == WEIGHTS | NORMS | STATISTICS
    scaled = first_scores(before)
    assert changed(scaled, learned["scores"]) == (WEIGHTS if "scores" in trained else set())
    assert ("logits" in learned) == ("logits" in trained)
    if "logits" in trained:
        assert len(learned["logits"].unique()) == len(WEIGHTS)  # all began equal
    # Fine-tuning trains all that is left and gives life to nothing.
    assert changed(model, tuned) == EVERYTHING
    for name in WEIGHTS:
        assert not tuned[name][~masks[name]].any()
        assert (tuned[name][masks[name]] != model[name][masks[name]]).any()


def first_scores(state):
    return {n: (6 / state[n][0].numel()) ** 0.5 * state[n] / state[n].abs().max() for n in WEIGHTS}


def test_pruning_channels_leaves_the_weights_of_the_channels_that_stay(dense, tmp_path):
    _, path = dense
    before = load_tree(path)
    model, learned, masks, tuned = pruned(tmp_path, path, granularity="channels", keep=0.5)
    # The first layer reads no prunable channel, so it is no site; the others are.
    assert changed({name: before[name] for name in WEIGHTS - {"0.weight"}}, learned["dense"]) == set()
    inputs = {"0.weight": torch.ones(1, dtype=torch.bool), "3.weight": masks["0.weight"], "7.weight": masks["3.weight"]}
    inputs |= {"12.weight": masks["7.weight"].repeat_interleave(4), "14.weight": masks["12.weight"]}
    for name in WEIGHTS:
        rows = masks.get(name, torch.ones(10, dtype=torch.bool))
        assert torch.equal(model[name], before[name][rows][:, inputs[name]])
    assert torch.equal(model["12.bias"], before["12.bias"][masks["12.weight"]])
    assert torch.equal(model["14.bias"], before["14.bias"])
    for layer, source in ((1, "0.weight"), (4, "3.weight"), (8, "7.weight")):
        assert not torch.equal(model[f"{layer}.weight"], before[f"{layer}.weight"][masks[source]])
    assert changed(model, tuned) == EVERYTHING
