"""The update serves any training of mmengine's Runner: it works where neither timm nor our models are imported."""

import json
import subprocess
import sys

IMPORTED = """
import json, sys
def found(*packages):
    return sorted(m for m in sys.modules if m.startswith(tuple(f'{p}.' for p in packages)) or m in packages)
HEAVY = ('timm', 'mmpretrain.models', 'mmpretrain.datasets', 'hybridcls.models', 'hybridcls.datasets',
         'hybridcls.evaluation', 'hybridcls.visualization', 'hybridcls.engine.config', 'hybridcls.engine.hooks')
# mmengine itself imports these where they are installed.
THEIRS = ('peft', 'transformers')
import mmengine.optim, mmengine.runner
before = found(*THEIRS)
"""
TRAINED = """
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(2, 1)
    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.fc(inputs).square().mean())

torch.manual_seed(0)
model = Line()
before_training = model.fc.weight.detach().clone()
runner = Runner(
    model, sys.argv[1], train_dataloader=dict(
        batch_size=2, dataset=[dict(inputs=torch.tensor([1.0, i])) for i in range(4)],
        sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='default_collate')),
    train_cfg=dict(by_epoch=True, max_epochs=2), log_level='ERROR',
    optim_wrapper=dict(type='hybridcls.ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.1),
                       stages=dict(sam=dict(type='SAM', rho=0.05))))
runner.train()
assert not torch.equal(model.fc.weight, before_training)
updates = runner.optim_wrapper.updates
"""


def imported_by(code, *args):
    code = f'{IMPORTED}{code}\nprint("\\n" + json.dumps([found(*HEAVY), sorted(set(found(*THEIRS)) - set(before))]))'
    ran = subprocess.run([sys.executable, '-c', code, *args], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_toy_of_mmengine_trains_with_sam_without_them(tmp_path):
    """By name: `import hybridcls.engine`, as `custom_imports` of another package does."""
    code = f'import hybridcls.engine\n{TRAINED}\nassert updates == 4, updates'
    assert imported_by(code, str(tmp_path)) == [[], []]
