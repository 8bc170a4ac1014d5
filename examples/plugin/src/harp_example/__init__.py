"""Things for harp to find, one of each kind."""
