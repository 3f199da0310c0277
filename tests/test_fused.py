"""Fused layers are the plain ones: values, gradients, running statistics, state; on the processor, in Triton's
interpreter, and on a GPU where there is one"""
import copy, json, os, pickle, subprocess, sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from woofbench.train.job import Job
from woofbench.train.machine import Machine
from woofbench.fast import fused
from woofbench.models.costs import saved_bytes
from woofbench.fast.fused import FusedLayers, FusedMaxBlur, FusedReduceFirstBlock, FusedResBlock, QuickMish
from woofbench.fast.fused import fuse_layers, fusion, norm_act
from woofbench.models.parts import attns, slots
from woofbench.tricks.max_blur import MaxBlur
from woofbench.models.spec import XResNetSpec, change
from woofbench.models.xresnet import build
from warm import python

has_cuda = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not has_cuda, reason='no CUDA device')
needs_triton = pytest.mark.skipif(not fused.has_triton(), reason='Triton is not installed')
small = XResNetSpec(depths=(1,1), widths=(8,16), expansion=1, stem_szs=(8,8), act='mish')
acts = dict(mish=lambda: nn.Mish(inplace=True), silu=nn.SiLU, relu=lambda: nn.ReLU(inplace=True),
            leaky=lambda: nn.LeakyReLU(.1))
dtypes = dict(fp32=(torch.float32, 1e-5), bf16=(torch.bfloat16, 3e-2), fp16=(torch.float16, 4e-3))
last = dict(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def seed(): torch.manual_seed(0)


def close(a, b, tol): torch.testing.assert_close(a.detach().double(), b.detach().double(), rtol=tol, atol=tol)

def grads(f, dz, *xs):
    "Output, and gradients of `xs`"
    xs = [o.detach().clone().requires_grad_() for o in xs]
    z = f(*xs)
    z.backward(dz)
    return [z.detach(), *(o.grad for o in xs)]

def awake(m):
    "No scale is zero, so that every path has gradients"
    for o in m.modules():
        if isinstance(o, nn.BatchNorm2d):
            nn.init.uniform_(o.weight, .5, 1.5)
            nn.init.normal_(o.bias)
    return m

def step(model, x, dtype=None):
    "Logits, gradients by name, and buffers by name"
    model.train().zero_grad()
    before = {k:b.clone() for k,b in model.named_buffers()}
    with torch.autocast(x.device.type, dtype=dtype) if dtype else nullcontext(): y = model(x)
    F.cross_entropy(y.float(), torch.arange(len(x), device=x.device)%10).backward()
    res = y.detach(),{k:p.grad.clone() for k,p in model.named_parameters()},{k:b.clone() for k,
            b in model.named_buffers()}
    for k,b in model.named_buffers(): b.data.copy_(before[k])
    return res

def off(got, truth): return torch.stack([(got[k].double()-truth[k]).norm() for k in truth]).norm()

def same_step(plain, quick, x, dtype=None, slack=3):
    "Is the fused network no further from the one in double precision than the plain one is?"
    a,b,truth = step(plain, x, dtype),step(quick, x, dtype),step(copy.deepcopy(plain).double(), x.double())
    for p,q,t in zip(a, b, truth):
        p,q,t = (dict(y=o.double()) if torch.is_tensor(o)
                 else {k:v.double() for k,v in o.items() if v.is_floating_point()} for o in (p, q, t))
        assert off(q, t) <= slack*off(p, t) + 1e-5*torch.stack([o.norm() for o in t.values()]).norm()
    for k,o in a[2].items():
        if not o.is_floating_point(): assert torch.equal(o, b[2][k])

def images(n=4, side=32, dev='cpu'): return torch.randn(n, 3, side, side).to(dev, **last)


# Mish on the processor

layouts = dict(contiguous=lambda x: x, last=lambda x: x.contiguous(**last), strided=lambda x: x[:,:,::2],
               cut=lambda x: x[:,1:], row=lambda x: x.flatten(), one=lambda x: x.flatten()[3], empty=lambda x: x[:0])

@pytest.mark.parametrize('layout', layouts)
@pytest.mark.parametrize('dtype', dtypes)
@pytest.mark.parametrize('piece', (100, 1<<16))
def test_mish(layout, dtype, piece, monkeypatch):
    monkeypatch.setattr(fused, 'PIECE', piece)
    dtype,_ = dtypes[dtype]
    tol = 1e-6 if dtype==torch.float32 else torch.finfo(dtype).eps
    x = layouts[layout](4*torch.randn(3, 5, 8, 7)).to(dtype)
    before,dz = x.clone(),torch.randn_like(x)
    got,want = grads(QuickMish(inplace=True), dz, x),grads(F.mish, dz.double(), x.double())
    for a,b in zip(got, want, strict=True):
        assert a.dtype==dtype and a.shape==x.shape
        torch.testing.assert_close(a.double(), b, rtol=2*tol, atol=tol)
    with torch.no_grad(): assert torch.equal(QuickMish()(x), got[0])
    assert torch.equal(x, before)

def test_mish_is_as_exact_as_torchs():
    x = torch.linspace(-40, 40, 400_001)
    dz = torch.ones_like(x)
    exact = grads(lambda o: o*torch.tanh(F.softplus(o, threshold=100)), dz.double(), x.double())
    for ours,theirs,b in zip(grads(QuickMish(), dz, x), grads(F.mish, dz, x), exact):
        ours,theirs = ((o.double()-b).abs().max() for o in (ours, theirs))
        assert ours<=max(2*theirs, 1e-6)

def test_mish_of_all_bf16():
    x = torch.arange(-2**15, 2**15).to(torch.int16).view(torch.bfloat16)
    x = x[x.isfinite()]
    for a,b in zip(grads(QuickMish(), torch.ones_like(x), x), grads(F.mish, torch.ones_like(x), x)):
        torch.testing.assert_close(a, b, rtol=2**-7, atol=1e-6)

def test_mish_at_the_edges():
    x = torch.tensor([float('nan'), float('inf'), 3e38, 1e20, 88.8, 20., -1e30])
    y,dx = grads(QuickMish(), torch.ones_like(x), x)
    assert y[0].isnan() and dx[0].isnan() and torch.equal(y[1:6], x[1:6]) and y[6]==0
    close(dx[2:6], torch.ones(4), 1e-6)

def test_mish_leaves_other_tensors_to_torch():
    x = torch.randn(5, dtype=torch.float64)
    assert torch.equal(QuickMish()(x), F.mish(x))
    assert QuickMish()(torch.empty(2, 3, device='meta')).shape==(2,3)

def test_mish_backward_twice():
    x = torch.randn(10, requires_grad=True)
    y = QuickMish()(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    close(x.grad, 2*grads(F.mish, torch.ones(10), x)[1], 1e-5)


# Networks

specs = dict(xresnet18=dict(arch='xresnet18'), xresnet50=dict(arch='xresnet50'),
             reduce=dict(arch='xresnet18', block='reduce_first', pool='max_blur', stem_pool='max_blur'),
             se=dict(arch='xse_resnet18'), sa=dict(arch='xresnet50', sa='simple_sa'),
             relu=dict(arch='xresnet18', act='relu'), leaky=dict(arch='xresnet18', act='leaky'),
             stages=dict(arch='xresnet18', act=('relu','mish','timm:swish','timm:gelu'), stem_act='mish'))
found = dict(xresnet18=(11,8,0,19,3), xresnet50=(35,16,0,51,4), reduce=(11,8,4,19,3), se=(11,0,0,27,11),
             sa=(35,15,0,51,5), relu=(11,8,0,0,3), leaky=(11,8,0,0,3), stages=(9,6,0,7,7))

def spec(name): return change(XResNetSpec(act='mish'), **specs[name])

@pytest.mark.parametrize('name', specs)
def test_what_is_found(name):
    model = build(spec(name))
    res = fuse_layers(model)
    assert (res.layers, res.blocks, res.pools, res.mish, res.left)==found[name]
    assert res.path=='cpu' and res==fuse_layers(model)==fusion(model)
    assert str(res).startswith(f'cpu: {res.mish} x Mish' if res.mish else 'cpu: nothing')

in_bf16 = [pytest.param(k, torch.bfloat16, marks=() if k in ('xresnet18','reduce') else pytest.mark.slow)
           for k in specs]

@pytest.mark.parametrize('name,dtype', [*((k, None) for k in specs), *in_bf16])
def test_whole_networks_on_the_processor(name, dtype):
    plain = build(spec(name)).to(**last)
    quick = copy.deepcopy(plain)
    fuse_layers(quick)
    x = images()
    same_step(plain, quick, x, dtype)
    quick.load_state_dict(plain.state_dict())
    if dtype is None: close(quick.eval()(x), plain.eval()(x), 1e-3)

@pytest.mark.parametrize('kind,name', [(k, n) for k,reg in slots.items() for n in reg])
def test_with_every_part(kind, name):
    plain = build(replace(small, widths=(16,32), stem_szs=(8,16),
                          **getattr(slots[kind][name], 'goes_with', {}) | {kind:name}))
    quick = copy.deepcopy(plain)
    fuse_layers(quick)
    x = images(2)
    for p,q in zip(step(plain, x), step(quick, x)):
        p,q = (dict(y=o) if torch.is_tensor(o) else {k:v for k,v in o.items() if v.is_floating_point()} for o in (p, q))
        assert off(q, p) <= 1e-4*off(p, {k:0*v for k,v in p.items()})

def test_state_stays():
    plain = build(spec('reduce'))
    state,params = copy.deepcopy(plain.state_dict()),list(plain.parameters())
    fuse_layers(plain)
    kinds = {type(o) for o in plain.modules()}
    assert {FusedLayers, FusedReduceFirstBlock, FusedMaxBlur, QuickMish} <= kinds
    assert all(a is b for a,b in zip(plain.parameters(), params, strict=True))
    assert list(plain.state_dict())==list(state) and all(torch.equal(v, state[k]) for k,v in plain.state_dict().items())
    x = images(2)
    for twin in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        assert {type(o) for o in twin.modules()}==kinds
        assert torch.equal(twin(x), plain(x))
    fresh = build(spec('reduce'))
    fresh.load_state_dict(plain.state_dict())
    plain.load_state_dict(fresh.state_dict())
    close(fresh.eval()(x), plain.eval()(x), 1e-4)

class Gate(nn.Sequential):
    "x times a gate of x"
    def __init__(self, nf, act): super().__init__(nn.Conv2d(nf, nf, 1, bias=False), nn.BatchNorm2d(nf))
    def forward(self, x): return x*torch.sigmoid(super().forward(x))

def test_an_attention_of_yours_with_a_norm_at_its_end_keeps_its_forward(registries_stay):
    attns.register('gate')(Gate)
    plain = awake(build(replace(small, attn='gate'))).eval()
    quick = copy.deepcopy(plain)
    fuse_layers(quick)
    assert sum(type(o) is Gate for o in quick.modules())>0
    x = images(2)
    close(quick(x), plain(x), 1e-4)

def test_fusing_changes_classes_only():
    plain = build(spec('xresnet18'))
    kinds = [type(o) for o in plain.modules()]
    fuse_layers(plain)
    now = [type(o) for o in plain.modules()]
    assert FusedResBlock in now and all(issubclass(a, b) for a,b in zip(now, kinds, strict=True))

def test_what_is_left_alone():
    class Norm(nn.BatchNorm2d): pass
    def odd(norm, act=nn.ReLU): return nn.Sequential(nn.Conv2d(3, 4, 1), norm, act())
    for o in (odd(Norm(4)), odd(nn.GroupNorm(2, 4)), odd(nn.BatchNorm2d(4, momentum=None)),
              odd(nn.BatchNorm2d(4, affine=False)), odd(nn.BatchNorm2d(4, track_running_stats=False)),
              odd(nn.BatchNorm2d(4), nn.GELU), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), nn.Sequential(),
              nn.Linear(2, 2)):
        kinds = [type(m) for m in o.modules()]
        res = fuse_layers(o)
        assert (res.layers, res.blocks, res.mish)==(0, 0, 0) and [type(m) for m in o.modules()]==kinds

def test_under_torch_compile():
    torch._dynamo.reset()
    plain = build(small)
    quick = copy.deepcopy(plain)
    fuse_layers(quick)
    x = images(2)
    close(torch.compile(quick, backend='aot_eager', fullgraph=True)(x), plain(x), 1e-4)

def curve(fuse, steps=20, device='cpu'):
    "Losses of the first steps on digits"
    from woofbench.data.manifest import find, verify
    from woofbench.train.recipe import recipes
    from woofbench.data.track import make_track
    from woofbench.train.learner import Callback, CancelFitException, make_learner
    class Course(Callback):
        def __init__(self): self.all = []
        def after_batch(self):
            self.all.append(self.loss.item())
            if len(self.all)==steps: raise CancelFitException()
    track = make_track('digits', epochs=1)
    learn = make_learner(Job(track, recipes('digits')().but(channels_last=True), verify(find(track), 'digits')), 0,
                         Machine(device=device, workers=0))
    if fuse: fuse_layers(learn.model)
    course = Course()
    with learn.no_bar(), learn.no_logging(), learn.added_cbs([course]): learn.fit(1, 8e-3)
    return torch.tensor(course.all)

def test_training_takes_the_same_course():
    a,b = curve(False),curve(True)
    assert len(a)==20 and a[-5:].mean()<a[:5].mean()-.1
    close(a[:5], b[:5], 1e-4)
    close(a, b, 1e-2)


# Kernels: `check_*` take a device, and are called by Triton's interpreter in a process of its own, and by the tests
# for a GPU

def check_layers(dev, shapes, names=tuple(dtypes)):
    "Values, gradients, running statistics and evaluation of one layer"
    for shape in shapes:
        for dtype,tol in (dtypes[o] for o in names):
            for act,make in acts.items():
                for residual in (False, True): _layer(dev, shape, dtype, tol, act, make(), residual)

def _layer(dev, shape, dtype, tol, act, f, residual, mean=0.):
    x,r,dz = ((torch.randn(shape, device=dev)*2+o).to(dtype).contiguous(**last) for o in (mean, 0., 0.))
    norm = awake(nn.BatchNorm2d(shape[1])).to(dev)
    ref = copy.deepcopy(norm).double()
    xs = (x,r) if residual else (x,)
    assert fused._can(x)
    got  = grads(lambda x, r=None: norm_act(x, norm, f, r), dz, *xs)
    want = grads(lambda x, r=0: f(ref(x)+r), dz.double(), *(o.double() for o in xs))
    assert all(o.dtype==dtype and o.is_contiguous(**last) for o in got)
    for a,b in zip(got, want, strict=True): close(a, b, tol)
    for k in ('weight','bias'):
        close(getattr(norm, k).grad, getattr(ref, k).grad, tol*max(1, getattr(ref, k).grad.abs().max().item()))
    for k in ('running_mean','running_var'): close(getattr(norm, k), getattr(ref, k), 1e-5*max(1, mean))
    assert norm.num_batches_tracked==1
    norm.eval(),ref.eval()
    with torch.no_grad():
        close(norm_act(x, norm, f, r if residual else None), f(ref(x.double())+(r.double() if residual else 0)),
              tol*max(1, mean))

def check_large_mean(dev):
    "A mean of 100 with deviation 1, and of 1000: what a mean of squares would lose"
    for mean in (100., 1000.): _layer(dev, (8,6,9,11), torch.float32, 1e-6*mean, 'mish', nn.Mish(), True, mean)

def check_edges(dev):
    "NaN is seen; scale zero has a gradient; one value a channel is refused; a gradient may be expanded"
    x = torch.randn(2, 3, 4, 4, device=dev).contiguous(**last)
    for act in acts.values():
        bad = x.clone()
        bad[0,1,2,2] = torch.nan
        y = norm_act(bad, nn.BatchNorm2d(3).to(dev), act())
        assert y[:,1].isnan().all() and y[:,[0,2]].isfinite().all()
    norm = nn.BatchNorm2d(3).to(dev)
    nn.init.zeros_(norm.weight)
    norm_act(x, norm, nn.Mish(), x).square().sum().backward()
    assert norm.weight.grad.abs().min()>0
    for refuse in (norm, lambda o: norm_act(o, norm, nn.ReLU())):
        with pytest.raises(ValueError, match='more than 1 value per channel'): refuse(x[:1,:,:1,:1])
    one = x[:1,:,:1,:1]
    with torch.no_grad(): close(norm_act(one, norm.eval(), nn.ReLU()), norm(one).relu(), 1e-6)
    norm = awake(nn.BatchNorm2d(3)).to(dev)
    dz = torch.rand(2, 3, 1, 1, device=dev).expand(2, 3, 4, 4) # as the mean over a map gives it
    for a,b in zip(*(grads(f, dz, x) for f in (lambda o: norm_act(o, norm, nn.ReLU()), lambda o: norm(o).relu()))):
        close(a, b, 1e-5)

def check_plain_ways(dev):
    "Where there is no kernel for it, the layers run as ever"
    norm,act = awake(nn.BatchNorm2d(4)).to(dev),nn.Mish()
    x = torch.randn(2, 4, 5, 5, device=dev)
    heard = []
    for kind,o in dict(nchw=x, double=x.double().contiguous(**last)).items():
        assert not fused._can(o), kind
        n = copy.deepcopy(norm).to(o.dtype)
        assert torch.equal(norm_act(o, n, act), act(copy.deepcopy(norm).to(o.dtype)(o)))
    x = x.contiguous(**last)
    assert norm_act(x, norm, act, x.double()).dtype==torch.float64
    with norm.register_forward_hook(lambda *_: heard.append(1)): norm_act(x, norm, act)
    assert heard==[1]
    norm.eval()
    got,want = (grads(f, torch.ones_like(x), x) for f in (lambda o: norm_act(o, norm, act), lambda o: F.mish(norm(o))))
    for a,b in zip(got, want): close(a, b, 1e-6)

def check_pool(dev, shapes, names=('fp32','bf16')):
    for shape in shapes:
        for dtype,tol in (dtypes[o] for o in names):
            for ties in (False, True):
                x = torch.randn(shape, device=dev)
                x = (x.round() if ties else x).to(dtype).contiguous(**last)
                dz = torch.randn(*shape[:2], *(o//2 for o in shape[2:]), device=dev).to(dtype)
                pool = MaxBlur(1)
                want = grads(pool, dz.double(), x.double())
                pool.__class__ = FusedMaxBlur
                for a,b in zip(grads(pool, dz, x), want): close(a, b, tol)

def check_network(dev, spec, side=32, dtype=None, n=4, kept=None, slack=3):
    "A whole network, trained and evaluated"
    plain = awake(build(spec)).to(dev, **last)
    quick = copy.deepcopy(plain)
    assert fuse_layers(quick).path=='triton'
    x = images(n, side, dev)
    same_step(plain, quick, x, dtype, slack)
    if kept: assert saved_bytes(quick, x)<kept*saved_bytes(plain, x)
    plain.load_state_dict(quick.eval().state_dict())
    truth = copy.deepcopy(plain).double().eval()(x.double())
    with torch.no_grad(), torch.autocast(dev, dtype=dtype) if dtype else nullcontext():
        a,b = plain.eval()(x).double(),quick(x).double()
    assert (b-truth).norm() <= slack*(a-truth).norm() + 1e-5*truth.norm()

def check_course(dev, steps=4):
    "A few steps of training a small network"
    plain = build(small).to(dev, **last)
    quick = copy.deepcopy(plain)
    fuse_layers(quick)
    x,y = images(8, 16, dev),torch.arange(8, device=dev)
    losses = []
    for m in (plain, quick):
        opt = torch.optim.SGD(m.parameters(), lr=.1, momentum=.9)
        for _ in range(steps):
            loss = F.cross_entropy(m(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.detach())
    a,b = torch.stack(losses).view(2, steps)
    assert a[-1]<a[0]
    close(a, b, 1e-3)


@pytest.fixture(scope='module')
def interpreted():
    "Run calls of this file's functions in a process in which Triton's kernels are interpreted, one for all tests"
    code = """import json, sys, traceback
from test_fused import *
for line in sys.stdin:
    torch.manual_seed(0)
    try: exec('\\n'.join(json.loads(line)))
    except BaseException: said = traceback.format_exc()
    else: said = ''
    print('said', json.dumps(said), flush=True)"""
    p = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                         env=os.environ | dict(TRITON_INTERPRET='1',
                                               PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path])))
    def _f(*calls):
        print(json.dumps(calls), file=p.stdin, flush=True)
        said = next((o for o in p.stdout if o.startswith('said ')), 'said "the process has ended"')
        assert not (error := json.loads(said[5:])), error
    yield _f
    p.stdin.close()
    p.stdout.close()
    assert p.wait()==0

@needs_triton
@pytest.mark.slow
def test_layers_interpreted(interpreted):
    interpreted("check_layers('cpu', [(2,3,5,7), (4,24,1,1)])", "check_layers('cpu', [(3,70,3,3)], ['bf16'])",
                "check_layers('cpu', [(2,8,40,33)], ['fp32'])")

@needs_triton
def test_edges_interpreted(interpreted):
    interpreted("check_large_mean('cpu')", "check_edges('cpu')", "check_plain_ways('cpu')")

@needs_triton
def test_pool_interpreted(interpreted):
    interpreted("check_pool('cpu', [(2,3,5,7), (1,18,4,4), (1,2,2,9)])")

@needs_triton
@pytest.mark.slow
def test_networks_interpreted(interpreted):
    "The interpreter cuts bf16 where a GPU rounds, hence the slack"
    interpreted("check_network('cpu', change(small, pool='max_blur', stem_pool='max_blur'), kept=.75)",
                "check_network('cpu', change(small, block='reduce_first', expansion=4, act='relu'))",
                "check_network('cpu', change(small, sa='simple_sa', act='leaky'))",
                "check_network('cpu', small, dtype=torch.bfloat16, slack=6)", "check_course('cpu')")

@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize('arch', ('xresnet18','xresnet50'))
def test_whole_networks_interpreted(interpreted, arch):
    interpreted(f"check_network('cpu', spec('{arch}'))")

def compiled(cc):
    "Compile all kernels for a GPU of compute capability `cc`, which need not be there"
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from woofbench.fast import blur_kernel as B, norm_kernel as N, ranger_kernel as R
    from woofbench.data import crop_kernel as C
    def compile(kernel, kind, consts):
        res = triton.compile(ASTSource(kernel, kind, {(kernel.arg_names.index(k),):v for k,v in consts.items()}),
                             target=GPUTarget('cuda', cc, 32))
        assert len(res.asm['cubin'])>0
    tile,whole = dict(BM=32, BC=64),'M C R P n N H W HO WO'.split()
    jobs = [(N._stats, tile), (N._merge, dict(BP=256, BC=8)), (N._add_up, dict(BP=256, BC=8)),
            *((o, dict(BP=16, BC=64)) for o in (B._blur, B._blur_back))]
    for res,act in ((False,'mish'), (True,'mish'), (True,'relu')):
        jobs += [(o, tile|dict(RES=res, ACT=act))
                 for o in (N._sums, N._dx)] + [(N._apply, tile|dict(RES=res, ACT=act, EVAL=not res))]
    maps = 'x res out dz dres dx'.split()
    for kernel,consts in jobs:
        kind = {k:'constexpr' if k in consts else '*bf16' if k in maps else 'i32' if k in whole else '*i64' if k
                =='batches' else 'fp32' if k in ('eps','mom','slope') else '*fp32' for k in kernel.arg_names}
        compile(kernel, kind, consts)
    compile(C._crop_resize, dict(pixels='*u8', plan='*i64', first='*i32', weight='*i32', out='*u8', size='i32',
                                 taps='i32', BLOCK='constexpr'), dict(BLOCK=512))
    for half,low,softplus in ((o,l,s) for o in ('*fp32','*bf16') for l in (False,True) for s in (False,True)):
        kind = dict.fromkeys('p m v slow rows'.split(), '*fp32') | dict(g=half, low='*bf16' if low else '*fp32',
                count='*i64', last='i32', n='i32', beta='fp32') | dict.fromkeys(('SOFTPLUS','LOW','BLOCK'), 'constexpr')
        compile(R._ranger, {k:kind[k] for k in R._ranger.arg_names}, dict(SOFTPLUS=softplus, LOW=low, BLOCK=1024))

@needs_triton
@pytest.mark.skipif(sys.platform!='linux', reason='Triton brings its assembler on Linux only')
@pytest.mark.slow
@pytest.mark.parametrize('cc', (80, 90))
def test_kernels_compile_for_gpus(cc, tmp_path):
    code = f'import os\nos.environ.pop("TRITON_INTERPRET", None)\nfrom test_fused import compiled\ncompiled({cc})'
    p = python(code, env=os.environ | dict(TRITON_CACHE_DIR=str(tmp_path),
                                           PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path])))
    assert p.returncode==0, p.stderr[-3000:]


# The same on a GPU

pytestmark_cuda = [pytest.mark.cuda, needs_cuda]
def cuda(f):
    for o in pytestmark_cuda: f = o(f)
    return f

@cuda
def test_layers_cuda():
    check_layers('cuda', [(2,3,5,7), (4,24,1,1), (3,70,9,9), (64,64,32,32), (64,2048,4,4), (2,8,40,33), (16,100,17,13)])

@cuda
def test_edges_cuda():
    check_large_mean('cuda')
    check_edges('cuda')
    check_plain_ways('cuda')

@cuda
def test_pool_cuda(): check_pool('cuda', [(2,3,5,7), (1,18,4,4), (1,2,2,9), (8,64,32,32), (4,256,17,16), (2,100,33,35)])

@cuda
@pytest.mark.parametrize('name', specs)
@pytest.mark.parametrize('dtype', (None, torch.bfloat16))
def test_networks_cuda(name, dtype):
    check_network('cuda', spec(name), 64, dtype, 16)

@cuda
def test_training_cuda(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False) # its rounding would be all there is to see
    check_course('cuda', 10)
    a,b = curve(False, device='cuda'),curve(True, device='cuda')
    close(a[:5], b[:5], 1e-3)
    close(a, b, 2e-2)

@cuda
def test_same_input_same_result_cuda():
    x = torch.randn(64, 64, 32, 32, device='cuda').contiguous(**last)
    def once():
        norm = nn.BatchNorm2d(64).cuda()
        return [*grads(lambda o: norm_act(o, norm, nn.Mish(), x), x, x), norm.weight.grad]
    assert all(torch.equal(a, b) for a,b in zip(once(), once()))

@cuda
def test_in_a_cuda_graph():
    model = awake(build(replace(small, pool='max_blur', stem_pool='max_blur'))).cuda().to(**last)
    fuse_layers(model)
    x,y = images(8, dev='cuda'),torch.arange(8, device='cuda')
    def one():
        for p in model.parameters(): p.grad = None
        F.cross_entropy(model(x), y).backward()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3): one()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph): one()
    for _ in range(2): graph.replay()
    held = {k:p.grad.clone() for k,p in model.named_parameters()}
    assert {int(o.num_batches_tracked) for o in model.modules() if isinstance(o, nn.BatchNorm2d)}=={5}
    one()
    for k,p in model.named_parameters(): close(held[k], p.grad, 1e-4)

def _measured(model, x, steps=20):
    "Milliseconds of a step in a CUDA graph, and MiB of activations that a step keeps"
    def forward():
        with torch.autocast('cuda', dtype=torch.bfloat16): return model(x).float().square().mean()
    def one():
        for p in model.parameters(): p.grad = None
        forward().backward()
    for _ in range(3): one()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    out = forward()
    kept = torch.cuda.memory_allocated()-before
    del out
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph): one()
    start,stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for i in range(steps+3):
        if i==3: start.record()
        graph.replay()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop)/steps, kept/2**20

@cuda
@pytest.mark.slow
@pytest.mark.parametrize('arch,size', (('xresnet50',128), ('xresnet18',128), ('xresnet50',192)))
def test_memory_and_time_cuda(arch, size, capsys):
    torch.backends.cudnn.benchmark = True
    x = torch.randn(64, 3, size, size, device='cuda').contiguous(**last)
    res = {}
    for name in ('plain','fused'):
        model = build(change(XResNetSpec(act='mish'), arch, pool='max_blur', stem_pool='max_blur')).cuda().to(**last)
        if name=='fused': fuse_layers(model)
        res[name] = _measured(model, x)
        del model
        torch.cuda.empty_cache()
    with capsys.disabled():
        print(f'\n{arch} {size} px, bs 64, bf16, forward and backward in a graph:',
              *(f'{k} {ms:.2f} ms, {mb:.0f} MiB kept;' for k,(ms,mb) in res.items()))
    assert res['fused'][1]<.75*res['plain'][1]
