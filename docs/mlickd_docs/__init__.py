"""What `docs/hooks.py` needs to build the pages of the documentation."""
