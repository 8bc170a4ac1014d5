import math
from contextlib import nullcontext

import pytest
import torch

from harp.attacks import ATTACKS, AttackWarning, Official
from harp.attacks.autoattack import autoattack
from harp.attacks.versions import VERSIONS, components
from harp.errors import HarpError
from harp.threats import Threat
from tests.attacks.linear import images, linear


@pytest.mark.parametrize("version", VERSIONS)
def test_the_official_engine_runs_the_versions_attacks_in_order(version):
    attacks = autoattack(version, norm=math.inf, engine="official", seed=3, batch=7)
    assert list(attacks) == list(VERSIONS[version])
    assert list(attacks.values()) == [Official(name, version, seed=3, batch=7) for name in VERSIONS[version]]


@pytest.mark.parametrize(("version", "norm"), [("plus", 2), ("rand", math.inf), ("standard", 1)])
def test_the_harp_engine_makes_its_own_attacks_with_the_versions_settings(version, norm):
    attacks = autoattack(version, norm=norm, batch=7)
    assert list(attacks) == list(components(version, norm))
    for name, settings in components(version, norm).items():
        assert attacks[name] == ATTACKS[name](**settings, batch=7)
        assert all(getattr(attacks[name], setting) == value for setting, value in settings.items() if setting != "eot")


@pytest.mark.parametrize("engine", ["harp", "official"])
def test_the_worst_case_of_a_linear_model_is_found_by_the_whole(engine):
    model, threat = linear(), Threat(math.inf, 0.1)
    x = images(6)
    with torch.no_grad():
        logits = model(x)
        y = logits.argmax(1)
        near = (logits[:, 1] - logits[:, 0]).abs() < 0.1 * 3.75
        left = torch.arange(6)
        for name, attack in autoattack(norm=math.inf, engine=engine).items():
            told = engine == "official" and name == "apgd-t"
            with pytest.warns(AttackWarning, match="apgd-t, classes") if told else nullcontext():
                adv = attack(model, x[left], y[left], threat, torch.Generator())
            left = left[model(adv).argmax(1) == y[left]]
    assert left.tolist() == (~near).nonzero().squeeze(1).tolist()


def test_an_unknown_engine_or_version_is_refused():
    with pytest.raises(HarpError, match="no engine 'offical' of AutoAttack; did you mean 'official'"):
        autoattack(norm=2, engine="offical")  # type: ignore[arg-type]
    with pytest.raises(HarpError, match="no version 'plos' of AutoAttack; did you mean 'plus'"):
        autoattack("plos", norm=2, engine="official")
    with pytest.raises(HarpError, match="for norm 1 there is: standard"):
        autoattack("rand", norm=1, engine="official")
