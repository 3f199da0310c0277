"""Every part by its name: it builds, runs forward and backward, and really is in the network. A new trick needs no
line here"""
from collections import Counter
from dataclasses import replace
import pytest
import torch
from woofbench.models.parts import slots, acts
from woofbench.models.xresnet import XResNet, build
from woofbench.models.spec import XResNetSpec, TimmSpec, per_stage
from woofbench.tricks.attention_maps import attention_maps
import woofbench.tricks  # noqa: F401  registers all tricks

small = XResNetSpec(depths=(1,1), widths=(16,32), expansion=1, stem_szs=(8,8,16))
field = dict(act='act', norm='norm', conv='conv', pool='pool', attn='attn', stem='stem', block='block', head='head')
parts = [(k, n) for k,reg in slots.items()
         for n in (*reg, *(f'{p}:{o}' for p,(_,names) in reg.providers.items() for o in names()))]
staged = [(k, n) for k,n in parts if field[k] in per_stage]


@pytest.fixture(autouse=True)
def seed(): torch.manual_seed(0)


def with_part(kind, name):
    "The small spec with the part, and with what the part says it goes with"
    return replace(small, **getattr(slots[kind](name), 'goes_with', {}) | {field[kind]:name})

def step(model, size=32, dtype=None, n_out=10):
    "Forward and backward; all gradients there and finite"
    model.train()
    x = torch.randn(2, 3, size, size)
    if dtype:
        model,x = model.to(memory_format=torch.channels_last),x.contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', dtype=dtype or torch.bfloat16, enabled=dtype is not None): out = model(x)
    assert out.shape==(2,n_out)
    torch.nn.functional.cross_entropy(out.float(), torch.tensor([1,2])).backward()
    for k,p in model.named_parameters():
        assert p.grad is not None, f'{k} has no gradient'
        assert p.grad.isfinite().all(), f'{k} has a gradient that is not finite'


@pytest.mark.parametrize('name', slots['stem'])
def test_a_stem_keeps_the_precision_of_its_network(name):
    "Without autocast, as an exported network or `attention_maps` has it"
    model = XResNet(replace(with_part('stem', name), sa='simple_sa')).bfloat16().eval()
    assert attention_maps(model, torch.rand(1, 3, 32, 32)).isfinite().all()

def probe(kind, name, spec=small):
    "The part by itself, as text, as the first stage has it"
    f = slots[kind](name)
    made = dict(act=lambda: f(), norm=lambda: f(16), conv=lambda: f(16, 16, 3, stride=1, padding=1, groups=1),
                pool=lambda: f(16),
                attn=lambda: f(16, acts(spec.act)), stem=lambda: f(spec)[0], block=lambda: f(spec, 16, 16),
                head=lambda: f())[kind]()
    return repr(made) if kind!='block' else type(made)

def count(kind, model): return Counter(type(o) if kind=='block' else repr(o) for o in model.modules())

def other(kind, name):
    "Another part of the kind to compare with, one that is not made of this one; or None"
    if kind=='attn': return None
    return next((o for o in slots[kind] if o!=name and str(probe(kind, name)) not in str(probe(kind, o))), None)


@pytest.mark.parametrize('kind,name', parts)
def test_part_is_in_the_network_and_trains(kind, name):
    model = XResNet(with_part(kind, name))
    p,o = probe(kind, name),other(kind, name)
    n = count(kind, model)[p]
    assert n>0, f'{p} is not in the network'
    if o or kind=='attn':
        assert n > count(kind, XResNet(replace(small, **{field[kind]:None}) if o is None else with_part(kind, o)))[p]
    step(model)


@pytest.mark.parametrize('kind,name', staged)
def test_part_in_one_stage_of_two(kind, name):
    "Stages may differ, also a basic and a bottleneck stage; with bf16 and channels last"
    base = getattr(small, field[kind])
    for value in ((name,base), (base,name)):
        model = XResNet(replace(with_part(kind, name), expansion=(1,4), **{field[kind]:value}))
        if kind=='attn': assert count(kind, model)[probe(kind, name)] == (value[0]==name)
        step(model, dtype=torch.bfloat16)


@pytest.mark.parametrize('name', slots['attn'])
def test_attention_at_the_end_of_the_first_stage_only(name):
    a,b = (XResNet(replace(small, depths=(2,1), **kw)) for kw in (dict(sa=name), {}))
    kind = type(slots['attn'](name)(16, acts('relu')))
    assert [sum(isinstance(o, kind) for o in m.modules()) for m in (a,b)]==[1,0]
    step(a)


@pytest.mark.parametrize('pool', slots['pool'])
@pytest.mark.parametrize('block', slots['block'])
def test_pools_and_blocks_fit_at_the_sizes_of_the_board(pool, block):
    for size in (64,128,192,256):
        with torch.device('meta'):
            assert build(replace(small, pool=pool, block=block, stem_pool=pool))(torch.empty(1,3,size,size)).shape==(1,
                    10)


@pytest.mark.parametrize('name', ('resnet18','mobilenetv3_small_050','vit_tiny_patch16_224'))
def test_whole_timm_models(name): step(build(TimmSpec(name), 10, 64), 64)


def test_a_row_knows_which_parts_are_not_this_packages(monkeypatch):
    """Own parts, partials of own classes among them, are covered by the commit; one registered elsewhere is not,
    whatever class it is of"""
    from functools import partial
    from woofbench.train.recipe import Recipe
    from woofbench.board.record.own_parts import outside as found
    def outside(kind, name): return list(found(Recipe(replace(small, **{field[kind]:name}))))
    for kind,name in parts:
        if ':' not in name: assert outside(kind, name)==[], (kind, name)
    for part in (torch.nn.SiLU, partial(acts['mish'])):
        monkeypatch.setitem(acts, 'mine', part)
        assert outside('act', 'mine')==['act mine']
