import random

import numpy
import torch

from harp.randomness import Keyed, fork, generator, global_draws, normal, per_image, seed_of, uniform


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


POINTS = torch.tensor([3, 0, 10_000])


def test_keyed_numbers_are_pinned_and_those_of_splitmix64():
    # Its published start: from state 0 the first output is 0xE220A8397B1DCDAF; we keep the upper 24 bits.
    assert int(Keyed(torch.tensor([0])).uniform((1,)) * (1 << 24)) == 0xE220A8


def test_a_points_numbers_are_its_own():
    whole = Keyed.of(POINTS, 0, "test").uniform((4, 5))
    for place, point in enumerate(POINTS):
        assert torch.equal(Keyed.of(point[None], 0, "test").uniform((4, 5))[0], whole[place])
    assert torch.equal(Keyed.of(POINTS, 0, "test").take(torch.tensor([2, 0])).uniform((4, 5)), whole[[2, 0]])


def test_every_name_and_seed_draws_otherwise():
    noise = Keyed.of(POINTS, 0, "test")
    draws = [noise, noise.at(0), noise.at(1), noise.at(1).at(0), Keyed.of(POINTS, 1, "test"), Keyed.of(POINTS, 0, "x")]
    assert len({tuple(draw.uniform((3,)).flatten().tolist()) for draw in draws}) == len(draws)


def test_a_name_may_differ_from_point_to_point():
    noise = Keyed.of(POINTS, 0, "test")
    mixed = noise.at(torch.tensor([5, 6, 5])).uniform((2,))
    assert torch.equal(mixed[[0, 2]], noise.at(5).uniform((2,))[[0, 2]])
    assert torch.equal(mixed[1], noise.at(6).uniform((2,))[1])


def test_uniform_and_normal_numbers_have_their_moments():
    noise = Keyed.of(torch.arange(100), 0, "test")
    flat, bell = noise.uniform((10_000,), -1, 3), noise.normal((10_000,))
    # A million draws: the standard errors are 0.0012 and 0.001, and about as much for the deviations.
    assert abs(float(flat.mean()) - 1) < 0.006
    assert abs(float(flat.std()) - 4 / 12**0.5) < 0.006
    assert flat.min() >= -1
    assert flat.max() < 3
    assert abs(float(bell.mean())) < 0.005
    assert abs(float(bell.std()) - 1) < 0.005
    assert abs(float((bell[:, :-1] * bell[:, 1:]).mean())) < 0.005
    assert abs(float((bell[:-1] * bell[1:]).mean())) < 0.005


def test_both_kinds_of_noise_serve_an_attack():
    like = torch.zeros(3, 2, 2)
    for noise in (generator(0, "a"), Keyed.of(POINTS, 0, "a")):
        draws = uniform(noise, like, -1, 1)
        assert draws.shape == like.shape
        assert draws.abs().max() <= 1
        assert normal(fork(noise, 1), like).shape == like.shape
    assert torch.equal(per_image(generator(0, "a"), 3).keys, per_image(generator(0, "a"), 3).keys)
    assert len(per_image(generator(0, "a"), 3).keys.unique()) == 3


def drawn():
    return [float(torch.rand(())), float(numpy.random.rand()), random.random()]


def test_what_others_draw_is_named_inside_and_undisturbed_outside():
    cpu = torch.device("cpu")
    with global_draws(cpu, 0, "a", 1):
        first = drawn()
    with global_draws(cpu, 0, "outer"):
        before = drawn()
        with global_draws(cpu, 0, "a", 1):
            assert drawn() == first
        after = drawn()
    with global_draws(cpu, 0, "outer"):
        assert [drawn(), drawn()] == [before, after]
    with global_draws(cpu, 0, "a", 2):
        assert not set(drawn()) & set(first)
