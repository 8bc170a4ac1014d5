from harp.config import forwards, make_recipe, plan


def test_training_costs_what_its_passes_cost():
    recipe = make_recipe({"attack": {"steps": 10}, "pretrain": {"objective": "natural", "batch_size": 4, "awp": 0.01}})
    dense, prune, _ = plan()
    assert forwards(recipe, dense, 5) == 5 * 4 * (3 + 3)  # a step, and AWP's
    assert forwards(recipe, prune, 1) == 128 * (10 * 3 + 3)
