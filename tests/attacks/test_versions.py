import math

import pyautoattack
import pytest
from torch import nn

from harp.attacks.official import NORMS
from harp.attacks.versions import VERSIONS, components
from harp.errors import HarpError

# Where the package keeps what a name's settings say.
PART = {"apgd-ce": "apgd", "apgd-dlr": "apgd", "apgd-t": "apgd_targeted", "fab": "fab", "fab-t": "fab"}
FIELD = {"steps": "n_iter", "restarts": "n_restarts", "targets": "n_target_classes", "eot": "eot_iter"}


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_settings_are_those_of_the_authors(version, norm):
    if norm == 1 and version != "standard":
        with pytest.raises(HarpError, match=f"AutoAttack '{version}' is published for norms inf and 2"):
            components(version, norm)
        return
    auto = pyautoattack.AutoAttack(nn.Identity(), norm=NORMS[norm], eps=0.1, version=version)
    auto.fab.n_restarts = 1 if "fab" not in auto.attacks_to_run else auto.fab.n_restarts
    parts = components(version, norm)
    assert list(parts) == auto.attacks_to_run
    for name, settings in parts.items():
        if name == "square":
            assert settings == {"queries": auto.square.n_queries}
            assert auto.square.n_restarts == 1
            continue
        part = getattr(auto, PART[name])
        # run_standard_evaluation sets it to 1 for fab-t just before it runs.
        restarts = 1 if name == "fab-t" else part.n_restarts
        found = {key: getattr(part, field) for key, field in FIELD.items() if key in settings} | {"restarts": restarts}
        assert settings == found
        assert settings.get("eot", 1) == getattr(part, "eot_iter", 1)


def test_radii_beyond_eps_come_first_under_norm_1_alone():
    for norm in (math.inf, 2, 1):
        auto = pyautoattack.AutoAttack(nn.Identity(), norm=NORMS[norm], eps=0.1, version="standard")
        assert auto.apgd.use_largereps == auto.apgd_targeted.use_largereps == (norm == 1)


def test_an_unknown_version_is_refused():
    with pytest.raises(HarpError, match="no version 'standart' of AutoAttack; did you mean 'standard'"):
        components("standart")
