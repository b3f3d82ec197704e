"""Private names of dependencies are known here alone: one file or folder a dependency, with the range it was run with.

What changes a dependency for the whole process, since nothing less does it:

- ``torch.carry_sentences_out_of_workers`` replaces the class by which a worker of a dataloader sends an error; it
  returns a function that takes this back.
- ``mmengine.register_package`` adds an entry to mmengine's table of packages with configs.
- :mod:`hybridcls.checkpoint_reading` registers its readers at mmengine's public registry of loaders.
"""
