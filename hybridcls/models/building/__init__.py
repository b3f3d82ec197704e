"""Build a backbone, a neck and a head that fit each other from their configs."""
