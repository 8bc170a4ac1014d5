"""What a run stands on: its folder, images, network, threat and display, checked before any work begins."""

from harp.pipeline.workspace import FOLDERS, Workspace, default_folder

__all__ = ["FOLDERS", "Workspace", "default_folder"]
