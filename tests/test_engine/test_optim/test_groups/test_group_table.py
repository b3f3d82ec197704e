from torch import nn

from hybridcls.engine.optim.groups import group_table


def test_every_group_is_a_line_with_what_it_got():
    model = nn.ModuleDict(dict(a=nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), b=nn.Linear(2, 1)))
    names = {id(param): name for name, param in model.named_parameters()}
    weights = [model.a[0].weight, model.a[1].weight, model.b.weight]
    groups = [
        dict(params=weights, lr=0.1, weight_decay=0.05),
        dict(params=[model.a[0].bias], lr=2e-5),
        dict(params=[model.b.bias], lr=1, weight_decay=0.0, betas=(0.9, 0.99)),
    ]
    lines = group_table(groups, names, lambda name: name[0], frozen=[model.a[1].bias]).split('\n')
    assert [line.split() for line in lines[:4]] == [
        ['group', 'tensors', 'parameters', 'lr', 'weight', 'decay', 'names'],
        ['0', '3', '12', '0.1', '0.05', 'a.*.weight,', 'b.weight'],
        ['1', '1', '2', '2e-05', '-', 'a.0.bias'],
        ['2', '1', '1', '1', '0', 'b.bias', '(betas=(0.9,', '0.99))'],
    ]
    assert lines[4] == '3 groups, 5 tensors, 15 parameters. Left out: 1 tensor, 2 parameters that need no gradient.'
    assert len({line.index(word) for line, word in zip(lines[1:4], ['a.*', 'a.0', 'b.bias'], strict=True)}) == 1
