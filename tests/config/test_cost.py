from harp.config import forwards, make_recipe, plan


def test_training_costs_what_its_passes_cost():
    recipe = make_recipe({"attack": {"steps": 10}, "pretrain": {"objective": "natural", "batch_size": 4, "awp": 0.01}})
    dense, prune, _ = plan()
    assert forwards(recipe, dense, 5) == 5 * 4 * (3 + 3)  # a step, and AWP's
    assert forwards(recipe, prune, 1) == 128 * (10 * 3 + 3)


def test_every_draw_of_noise_costs_as_much_in_each_step_of_the_attack():
    recipe = make_recipe({"attack": {"steps": 4}, "prune": {"objective": "smoothadv", "draws": 3, "batch_size": 2}})
    assert forwards(recipe, plan()[1], 1) == 2 * 3 * (4 * 3 + 3)
