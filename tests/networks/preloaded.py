"""What processes of `test_kills` hold before they are forked, so that they get to work at once."""

import torch
from torch import nn

import harp.cli.certify
import harp.networks.bounding
import harp.networks.certifying
import harp.networks.named
import harp.pipeline
import harp.report.certified  # noqa: F401 (loaded, not used)
from harp.graph import capture

torch.set_num_threads(1)  # threads do not survive a fork
layers = (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 2))
capture(nn.Sequential(*layers).eval(), torch.rand(1, 1, 8, 8))
