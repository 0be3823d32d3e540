"""The distillers: losses that train a student with its teacher's knowledge, one file for each kind."""
