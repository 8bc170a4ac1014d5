import torch
from hypothesis import settings

# No deadline: the machine may be shared. No database: a test writes nowhere but in tmp_path.
settings.register_profile("harp", deadline=None, database=None)
settings.load_profile("harp")

# One test process a core: more threads than cores would wait for one another.
torch.set_num_threads(1)
