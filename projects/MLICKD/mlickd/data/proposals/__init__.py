"""Region proposals: how they are made, kept, and exchanged with other projects."""
