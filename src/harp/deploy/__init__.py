"""A package run by the engine alone: numpy arrays in and out, without PyTorch and the rest of harp."""

from harp.deploy.network import Network, load
from harp.deploy.plans import save_plan

__all__ = ["Network", "load", "save_plan"]
