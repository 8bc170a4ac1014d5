import torch

from harp.randomness import generator, seed_of


def test_the_seed_of_a_name_is_pinned():
    # Were this to change, a resumed run would go on with other noise than it began with.
    assert seed_of(0, "a", 1) == 4757247737403457943


def test_every_key_and_their_order_count():
    seeds = {
        seed_of(0),
        seed_of(1),
        seed_of(0, "a"),
        seed_of(0, "a", "b"),
        seed_of(0, "b", "a"),
        seed_of(0, "ab"),
        seed_of(0, "a", 1),
        seed_of(0, "a", "1"),
    }
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_same_name_draws_the_same():
    first, second = generator(3, "noise", 7), generator(3, "noise", 7)
    assert torch.equal(torch.rand(5, generator=first), torch.rand(5, generator=second))


def test_another_name_draws_otherwise():
    first, second = generator(3, "noise", 7), generator(3, "noise", 8)
    assert not torch.equal(torch.rand(5, generator=first), torch.rand(5, generator=second))


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(5, generator=generator(3, "noise"))
    assert torch.equal(torch.get_rng_state(), before)
