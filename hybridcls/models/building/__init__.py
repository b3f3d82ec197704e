"""From the config of a backbone, a neck and a head to parts that fit each other."""
