"""What builds the pages of the documentation that are made from the project's own files."""
