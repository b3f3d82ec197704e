"""Private names of dependencies: one file or folder per dependency, with the versions it was tested with.

What changes a dependency for the whole process, since nothing less does it:

- ``torch.carry_sentences_out_of_workers`` replaces the class by which a worker of a dataloader sends an error; it
  returns a function that takes this back.
- ``mmengine.register_package`` adds an entry to mmengine's table of packages with configs.
- :mod:`hybridcls.checkpoint_reading` registers its readers at mmengine's public registry of loaders.
"""
