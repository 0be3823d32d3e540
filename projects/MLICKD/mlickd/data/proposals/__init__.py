"""Region proposals: generation, storage, and exchange with other projects."""
