from hypothesis import settings

# No deadline: the machine may be shared. No database: a test writes nowhere but in tmp_path.
settings.register_profile("data", deadline=None, database=None)
settings.load_profile("data")
