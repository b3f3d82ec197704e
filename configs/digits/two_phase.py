"""Both phases on the digits in turn, as in tools/quickstart.sh.

python tools/train.py configs/digits/two_phase.py
"""

phases = [
    dict(name='supcon', config='supcon_hybrid.py'),
    dict(name='adaface', config='adaface_hybrid.py', cfg_options=dict(lr=1e-3)),
]
