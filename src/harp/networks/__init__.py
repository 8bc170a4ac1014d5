"""Any network by name, measured, packed and compared."""
