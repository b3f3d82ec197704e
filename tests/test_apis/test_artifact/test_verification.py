"""An artifact beside the checkpoint that it was exported from, and `hybridcls verify`."""

import json

import pytest
from command_runs import hybridcls

