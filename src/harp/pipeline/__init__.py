"""What a run stands on: its folder, images, network, threat and display, checked before any work begins."""

from harp.pipeline.workspace import Workspace, default_folder

__all__ = ["Workspace", "default_folder"]
