"""Our parts against the numbers of the papers' codes."""
