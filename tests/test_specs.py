"Any parts together: random specs build, run and learn, or are refused with one line before any data is read"
import copy
from dataclasses import replace
from functools import lru_cache
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch.nn import functional as F
from woofbench.models.costs import cost
from woofbench.models.parts import slots
from woofbench.registry import BadInput
from woofbench.commands.prepare import plan
from woofbench.models.spec import XResNetSpec, change, optional, per_stage, slot_of
from woofbench.models.xresnet import build
import woofbench.tricks  # noqa: F401  registers all tricks

sizes = (64,128,192,256)
small = XResNetSpec(depths=(1,1), widths=(16,32), expansion=1, stem_szs=(8,8,16))


@lru_cache
def names(slot):
    "Canonical names, with a few of every provider's"
    reg = slot_of[slot]
    return [*reg, *(f'{p}:{o}' for p,(_,find) in reg.providers.items() for o in find()[:6])] + ([None]
            if slot in optional else [])

@st.composite
def specs(draw):
    "A small network of two stages with parts from all registries"
    res = dict(expansion=draw(st.tuples(*[st.sampled_from((1,4))]*2)), groups=draw(st.sampled_from((1,1,2))))
    for k in slot_of:
        one = st.sampled_from(names(k))
        res[k] = draw(st.tuples(one, one) if k in per_stage else one)
    return replace(small, **res)

def refusal(spec, size):
    "What is known not to work: words of the messages; none where the network has to work"
    acts = {spec.stem_act or spec.act[0], *spec.act}
    res = ['inplace'] if 'inplace' in spec.norm and any(not o.startswith('leaky') for o in acts) else []
    return res + ['has no groups']*(spec.groups>1 and 'weighted_sum_linear' in spec.conv)

def learn(spec, size, precision, channels_last, bs=2):
    "One step forward and backward"
    model = build(spec, 10, size).train()
    x = torch.randn(bs, 3, size, size)
    if channels_last:
        model,x = model.to(memory_format=torch.channels_last),x.contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=precision=='bf16'): out = model(x)
    loss = F.cross_entropy(out.float(), torch.arange(bs))
    loss.backward()
    assert loss.isfinite()
    assert not [k for k,p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(specs(), st.sampled_from(sizes), st.sampled_from(('fp32','bf16')), st.booleans())
def test_any_parts_together(spec, size, precision, channels_last):
    torch.manual_seed(0)
    try: counted = cost(spec, size)
    except BadInput as e:
        assert refusal(spec, size), f'{spec} at {size} px: {e}'
        assert len(str(e).splitlines())==1 and any(o in str(e) for o in refusal(spec, size))
        return
    assert counted['params']>0 and counted['macs']>0
    learn(spec, 64, precision, channels_last)
    with torch.device('meta'), torch.no_grad(): assert build(spec).eval()(torch.empty(1, 3, size, size)).shape==(1,10)


own = [(k, n) for k,reg in slots.items() for n in reg]

def with_part(kind, name):
    part = slots[kind][name]
    return replace(small, **{kind:name} | getattr(part, 'goes_with', {}))

def mixed(i):
    "The i-th part of every kind, round about, and what such a part goes with"
    named = {k:list(reg)[i%len(reg)] for k,reg in slots.items()}
    more = {k:v for kind,name in named.items() for k,v in getattr(slots[kind][name], 'goes_with', {}).items()}
    return replace(small, **named | more)

@pytest.mark.parametrize('i', (0,1,2,*(pytest.param(i, marks=pytest.mark.slow)
                                       for i in range(3, max(map(len, slots.values()))))))
def test_parts_under_torch_compile(i):
    "One graph without breaks, and the numbers of the eager network"
    compiled(mixed(i))

@pytest.mark.slow
@pytest.mark.parametrize('kind,name', own)
def test_part_under_torch_compile(kind, name): compiled(with_part(kind, name))

def compiled(spec):
    torch._dynamo.reset()
    torch.manual_seed(0)
    eager = build(spec).train()
    model = copy.deepcopy(eager)
    x = torch.randn(2, 3, 64, 64)
    out = torch.compile(model, backend='aot_eager', fullgraph=True)(x)
    torch.testing.assert_close(out, eager(x), rtol=1e-4, atol=1e-4)
    F.cross_entropy(out, torch.arange(2)).backward()
    assert not [k for k,p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]

@pytest.mark.parametrize('kind,name', own)
def test_part_at_all_sizes(kind, name):
    for size in sizes: assert cost(with_part(kind, name), size)['params']>0


def test_what_cannot_work_is_refused_before_data_is_read(monkeypatch):
    def never(*args, **kw): raise AssertionError('data was read')
    monkeypatch.setattr('woofbench.commands.prepare.find', never)
    for kw,hint in ((dict(arch='timm:tresnet_m', size=66), 'cannot take 66 px'),
                    (dict(arch='xresnet18', stem='space_to_depth', stem_pool='none', size=66), 'cannot take 66 px'),
                    (dict(arch='xresnet18', norm='inplace', act='mish', size=64), 'leaky'),
                    (dict(progressive=.5, size=32), 'multiples of 32'),
                    (dict(mixup=.2, cutmix=1., size=64), 'one of them'),
                    (dict(opt='sgd', beta=50., size=64), 'no use of beta')):
        with pytest.raises(BadInput, match=hint) as e: plan('imagewoof', **kw)
        assert len(str(e.value).splitlines())==1


def test_aliases_resolve_to_one_name():
    for reg in slots.values():
        for alias,name in reg.aliases.items(): assert reg.canon(alias)==name
    assert change(XResNetSpec(), sa='ssa', pool='MaxBlurPool2d', block='NewResBlock')==change(XResNetSpec(),
            sa='simple_sa', pool='max_blur', block='reduce_first')
