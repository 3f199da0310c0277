"Ranger in one pass is fastai's Ranger: in a Learner, in files, with groups, and when its steps are planned"
import copy, os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from fastcore.foundation import L
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import Learner, ParamScheduler, combined_cos
from fastai.callback.training import GradientAccumulation
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import load_learner
from fastai.optimizer import ranger
from fastai.torch_core import noop, params
from woofbench.fast.ranger import FlatRanger, flat_ranger
from woofbench.train.callbacks import GradToNone
from woofbench.fast.ranger_steps import LookBack, contiguous_views, rows, torch_step_
from woofbench.registry import BadInput
from warm import python

base = dict(mom=.9, sqr_mom=.99, eps=1e-6, beta=0.)
double,single = torch.float64,torch.float32


def pair(**kw):
    "fastai's optimiser function and ours, for the same recipe"
    o = base|kw
    return partial(ranger, **o),flat_ranger(SimpleNamespace(**o))

def net(dtype=double):
    "No bias before a batch norm: its gradient is rounding noise, which Adam makes as large as any other"
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3,8,3,bias=False), nn.BatchNorm2d(8), nn.Mish(), nn.Conv2d(8,8,3,2,1),
                         nn.GroupNorm(2,8), nn.Mish(),
                         nn.Conv2d(8,16,1,bias=False), nn.BatchNorm2d(16), nn.Mish(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(16,4)).to(dtype)

def loss(pred, y): return F.cross_entropy(pred, y).float() # the recorder cannot take a double

class Data(list):
    def new_empty(self): return Data()

def data(dtype=double, n=104):
    torch.manual_seed(1)
    return Data((torch.randn(3,10,10, dtype=dtype) + i%4*.3, i%4) for i in range(n))

def split(m): return L(m[:3], m[3:6], m[6:]).map(params)

def learner(make, path='.', dtype=double, **kw):
    xy = data(dtype)
    dls = DataLoaders(DataLoader(xy, bs=8, num_workers=0), DataLoader(Data(xy[:16]), bs=8, num_workers=0),
                      path=Path(path))
    learn = Learner(dls, net(dtype), loss_func=loss, opt_func=make, wd=.1, **copy.deepcopy(kw))
    learn.logger = noop
    return learn.remove_cb(ProgressCallback)

def flat(m): return torch.cat([p.detach().double().flatten() for p in m.parameters()])

def off(a, b):
    "Distance of two learners' weights as a share of the way from the start"
    (a,b),start = (flat(o.model) for o in (a,b)),flat(net())
    way = (b-start).norm()
    assert way>.01
    return ((a-b).norm()/way).item()

def same_books(a, b, rtol=1e-9):
    "Are state, hyper-parameters and slow weights of two optimisers the same?"
    a,b = (o.state_dict() for o in (a,b))
    assert a.keys()==b.keys() and a['count']==b['count']
    for x,y in zip(a['state'], b['state'], strict=True):
        assert set(x)==set(y) and {k:v for k,v in x.items() if not torch.is_tensor(v)}=={k:v for k,
                v in y.items() if not torch.is_tensor(v)}
        for k in x:
            if torch.is_tensor(x[k]): torch.testing.assert_close(x[k], y[k], rtol=rtol, atol=rtol)
    for x,y in zip(a['hypers'], b['hypers'], strict=True): assert x==y
    if a['slow_weights'] is None: assert b['slow_weights'] is None
    else:
        for xs,ys in zip(a['slow_weights'], b['slow_weights'], strict=True):
            for x,y in zip(xs, ys, strict=True): torch.testing.assert_close(x, y, rtol=rtol, atol=rtol)

def both(fit, tmp_path='.', tol=1e-11, recipe={}, **kw): # noqa: B006  never changed
    "Two learners after `fit(learner)`, fastai's and ours, held against each other"
    ls = [learner(o, tmp_path, **kw) for o in pair(**recipe)]
    for o in ls: fit(o)
    assert type(ls[1].opt) is FlatRanger and off(*ls)<tol, off(*ls)
    if tol<1e-6: same_books(*(o.opt for o in ls))
    return ls


# In a learner: epochs of 13 batches, so that looking back falls anywhere

@pytest.mark.parametrize('dtype,tol', [(double,1e-11),(single,1e-5)])
def test_sixty_steps_of_flat_cos(dtype, tol):
    fast = both(lambda o: o.fit_flat_cos(5, 1e-2), dtype=dtype, tol=tol)[1]
    assert fast.opt.count==65 and [s.get('do_wd', True) for s in fast.opt.state_dict()['state']][:3]==[True,False,False]

@pytest.mark.parametrize('recipe',
                         [dict(beta=50.), dict(eps=1e-3), dict(mom=0.), dict(sqr_mom=0.), dict(sqr_mom=.5),
                          dict(mom=.95, sqr_mom=.999)], ids=str)
def test_other_numbers(recipe): both(lambda o: o.fit_flat_cos(3, 1e-2), recipe=recipe)

@pytest.mark.parametrize('kw', [dict(wd_bn_bias=True), dict(train_bn=False), dict(cbs=[GradToNone()]),
                                dict(cbs=[GradientAccumulation(16)])], ids=lambda o: next(iter(o)))
def test_learner_options(kw): both(lambda o: o.fit_flat_cos(3, 1e-2), **kw)

def test_one_cycle():
    fast = both(lambda o: o.fit_one_cycle(5, 2e-2))[1]
    assert fast.recorder.hps['mom'][0]!=fast.recorder.hps['mom'][14]

def test_a_second_fit_goes_on_and_reset_begins_again():
    def fit(o):
        for kw in ({}, {}, dict(reset_opt=True)): o.fit_flat_cos(2, 1e-2, **kw)
    assert both(fit)[1].opt.count==26

def test_clear_state():
    def fit(o):
        o.fit_flat_cos(2, 1e-2)
        o.opt.clear_state()
        assert o.opt.slow_weights is None and all(set(s) <= {'do_wd','force_train'}
                                                  for s in o.opt.state_dict()['state'])
        o.fit_flat_cos(2, 1e-2)
    both(fit)

def test_lr_find(tmp_path):
    found = []
    def fit(o):
        o.fit_flat_cos(1, 1e-2)
        found.append(o.lr_find(num_it=40, show_plot=False))
        o.fit_flat_cos(2, 1e-2)
    both(fit, tmp_path)
    assert found[0].valley==pytest.approx(found[1].valley)

def test_groups_frozen_and_with_other_learning_rates():
    def fit(o):
        o.create_opt()
        o.opt.freeze_to(-1)
        o.fit_flat_cos(2, slice(1e-2))
        assert [p.requires_grad for p in o.model[0].parameters()]==[False]
        o.opt.freeze_to(1)
        o.fit_one_cycle(2, slice(1e-3,1e-2))
        o.opt.unfreeze()
        o.fit_flat_cos(2, slice(1e-3,1e-2))
    ref,fast = both(fit, splitter=split)
    lrs = [h['lr'] for h in fast.opt.hypers]
    assert lrs[0]<lrs[1]<lrs[2] and [pg['lr'] for pg in fast.opt.param_groups]==lrs
    assert len({s['step'] for s in fast.opt.state_dict()['state']})==3

class Without(Callback):
    "No gradient for the last layer in some steps, and for the first until the ninth"
    def before_step(self):
        if self.train_iter%4==2:
            for p in self.model[-1].parameters(): p.grad = None
        if self.train_iter<9: self.model[0].weight.grad = None

def test_parameters_without_gradients():
    fast = both(lambda o: o.fit_flat_cos(4, 1e-2), cbs=[Without, GradToNone])[1]
    assert len({s['step'] for s in fast.opt.state_dict()['state']})==3

class Skip(Callback):
    "As a loss scaler does: no step"
    def before_step(self):
        from fastai.callback.core import CancelStepException
        if self.train_iter%5==0: raise CancelStepException()

def test_steps_left_out(): assert both(lambda o: o.fit_flat_cos(2, 1e-2), cbs=[Skip])[1].opt.count==20


# Memory

def test_channels_last_from_before_fit():
    fast = both(lambda o: o.fit_flat_cos(4, 1e-2), cbs=[ChannelsLast])[1]
    w = fast.model[0].weight
    assert not w.is_contiguous(
            ) and w.is_contiguous(
                    memory_format=torch.channels_last) and fast.opt.state[w]['grad_avg'].stride()==w.stride()

def test_memory_format_that_changes_between_fits():
    def fit(o):
        for i,f in enumerate((torch.contiguous_format, torch.channels_last, torch.contiguous_format)):
            o.model.to(memory_format=f)
            o.fit_flat_cos(1+i, 1e-2)
    both(fit)

class Scramble(Callback):
    "Gradients in another order in memory than their weights"
    def before_step(self):
        for p in self.model.parameters():
            if p.ndim==4: p.grad = p.grad.contiguous(memory_format=torch.channels_last)
            if p.ndim==2: p.grad = p.grad.T.contiguous().T

def test_gradients_in_another_order(): both(lambda o: o.fit_flat_cos(3, 1e-2), cbs=[Scramble, GradToNone])

def odd_weights(dtype=double):
    "Slices with gaps, a transposed matrix, a map of volumes, strides that mean nothing, numbers and nothing"
    torch.manual_seed(0)
    whole = torch.randn(9,7, dtype=dtype)
    ps = [whole[:,:3], whole.T[4:], torch.randn(5,4, dtype=dtype).T,
          torch.randn(2,3,2,2,2, dtype=dtype).to(memory_format=torch.channels_last_3d),
          torch.randn(4,3,1,1, dtype=dtype).as_strided((4,3,1,1), (3,1,3,3)), torch.randn(4,3,1,1, dtype=dtype),
          torch.tensor(1., dtype=dtype), torch.zeros(0, dtype=dtype), torch.randn(3)]
    return whole,[nn.Parameter(p) for p in ps]

def odd_walk(make, n=20):
    whole,ps = odd_weights()
    between = whole[:,3].clone()
    opt = make(ps, lr=1e-2)
    for i in range(n):
        g = torch.Generator().manual_seed(i)
        for p in ps: p.grad = torch.randn(p.shape, generator=g, dtype=p.dtype)
        if i==9: opt.zero_grad()
        opt.step()
    assert whole[:,3].equal(between)
    return ps

def test_weights_of_any_layout_and_type():
    for a,b in zip(*map(odd_walk, pair())):
        torch.testing.assert_close(a, b, rtol=1e-12 if a.dtype==double else 1e-6,
                                   atol=1e-12 if a.dtype==double else 1e-6)

def test_memory():
    x,y = torch.randn(4,3,2,2),torch.randn(4,3,1,1)
    last = x.to(memory_format=torch.channels_last)
    assert contiguous_views(x, x.clone())[0] is x and contiguous_views(last, last.clone())[0].shape==(4,2,2,3)
    for o in ((x, last), (x[:,:,::2],), (x.flatten(1).T,)): assert contiguous_views(*o) is None
    # kernels for lists want equal strides
    assert [o.stride() for o in contiguous_views(y, y.as_strided(y.shape, (3,1,3,3)))]==[(1,),(1,)]

def test_zero_grad_fills_and_leaves_none():
    w,u = (nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = FlatRanger([w,u], lr=.1)
    w.grad = (w*w).detach()
    at = w.grad.data_ptr()
    opt.zero_grad()
    assert u.grad is None and w.grad.tolist()==[0,0] and w.grad.data_ptr()==at


# Files and copies

@pytest.mark.parametrize('frm,to', [(0,1),(1,0),(1,1)], ids=['from fastai','to fastai','own'])
def test_saved_and_loaded(frm, to, tmp_path):
    a = learner(pair()[frm], tmp_path)
    a.fit_flat_cos(2, 1e-2)
    a.save('x')
    b = learner(pair()[to], tmp_path)
    b.load('x', with_opt=True)
    same_books(a.opt, b.opt)
    for o in (a,b): o.fit_flat_cos(2, 1e-2)
    assert off(a, b)<1e-11
    same_books(a.opt, b.opt)

@pytest.mark.parametrize('planned', [False,True])
@pytest.mark.parametrize('how', [copy.deepcopy, lambda o: cloudpickle.loads(cloudpickle.dumps(o))],
                         ids=['copied','pickled'])
def test_learner_copied(how, planned):
    a = learner(pair()[1])
    a.fit_flat_cos(2, 1e-2)
    if planned: a.opt.plan([.01])
    b = how(a)
    before = flat(b.model)
    same_books(a.opt, b.opt)
    assert not b.opt.flats and not b.opt.planned # graphs are not copied, so neither is what they need
    a.fit_flat_cos(1, 1e-2)
    assert flat(b.model).equal(before)
    b.fit_flat_cos(1, 1e-2)
    assert off(a, b)<1e-12
    same_books(a.opt, b.opt)

def test_exported(tmp_path):
    a = learner(pair()[1], tmp_path)
    a.fit_flat_cos(1, 1e-2)
    a.export()
    x = torch.randn(2,3,10,10, dtype=double)
    with pytest.warns(UserWarning): b = load_learner(tmp_path/'export.pkl')
    a.model.eval(), b.model.eval()
    assert a.model(x).equal(b.model(x))


# Planned

class Planned(Callback):
    "Take planned steps, as a loop that replays a graph would; what is planned is what the schedulers will say"
    def __init__(self, lr=1e-2, low=None, moms=None): self.lr,self.low,self.moms = lr,low,moms
    def before_fit(self):
        n = len(self.dls.train)*self.n_epoch
        sched = combined_cos(.75, self.lr, self.lr, self.lr/1e5)
        moms = None if self.moms is None else [combined_cos(.75, *self.moms)(i/n) for i in range(n)]
        self.held = self.opt.plan([sched(i/n) for i in range(n)], moms, self.low)
    def before_step(self):
        from fastai.callback.core import CancelStepException
        self.opt.planned_step()
        raise CancelStepException()

def planned_against_fastai(make_cb=Planned, dtype=double, tol=1e-11, fits=(2,3), **kw):
    ref,fast = (learner(o, dtype=dtype, **kw) for o in pair())
    for n in fits:
        ref.fit_flat_cos(n, 1e-2)
        cb = make_cb()
        fast.fit(n, 1e-2, cbs=cb)
        for o in (ref,fast): o.opt.set_hypers(lr=1e-2)
    assert off(fast, ref)<tol
    same_books(ref.opt, fast.opt, 1e-9 if dtype==double else 1e-3)
    return ref,fast

@pytest.mark.parametrize('dtype,tol', [(double,1e-11),(single,1e-5)])
@pytest.mark.parametrize('cbs', [[],[ChannelsLast]], ids=['plain','channels_last'])
def test_planned(dtype, tol, cbs):
    ref,fast = planned_against_fastai(dtype=dtype, tol=tol, cbs=cbs)
    assert len(fast.opt.flats)==2 and all(p.data_ptr()==o.data_ptr() for f in fast.opt.flats.values() for p,
                                          o in zip(f.params, f.views('p')))

def test_planned_then_by_hand_and_back():
    ls = [learner(o) for o in pair()]
    for o,cb in zip(ls, (None,Planned)):
        o.fit_flat_cos(1, 1e-2)
        if cb: o.fit(2, 1e-2, cbs=cb)
        else: o.fit_flat_cos(2, 1e-2)
        o.fit_flat_cos(1, 1e-2)
        if cb: o.fit(1, 1e-2, cbs=cb)
        else: o.fit_flat_cos(1, 1e-2)
        o.opt.set_hypers(lr=1e-2)
    assert off(*ls)<1e-11
    same_books(*(o.opt for o in ls))

def test_planned_momenta():
    moms = (.95,.85,.95)
    ref,fast = (learner(o) for o in pair())
    ref.fit(3, 1e-2, cbs=ParamScheduler(dict(lr=combined_cos(.75, 1e-2, 1e-2, 1e-7), mom=combined_cos(.75, *moms))))
    fast.fit(3, 1e-2, cbs=Planned(moms=moms))
    assert off(fast, ref)<1e-11

def test_planned_with_groups_and_a_frozen_one():
    ref,fast = (learner(o, splitter=split) for o in pair())
    lrs = np.array([[1e-9,3e-3,1e-2]])
    for o in (ref,fast):
        o.create_opt()
        o.opt.freeze_to(1)
        o.opt.set_hypers(lr=lrs[0], wd=.1)
        if o is fast: o.opt.plan(np.repeat(lrs, 30, 0))
        xs = data()
        for i in range(30):
            o.loss_func(o.model(xs[i][0][None].repeat(2,1,1,1)), torch.tensor([i%4]*2)).backward()
            o.opt.planned_step() if o is fast else o.opt.step()
            for p in o.model.parameters(): p.grad = None
    assert off(fast, ref)<1e-11
    same_books(ref.opt, fast.opt)

def test_plan_keeps_addresses_for_the_next_seed():
    fast = learner(pair()[1], cbs=[GradToNone])
    seen = []
    for _ in range(3):
        fast.model.load_state_dict(net().state_dict())
        if fast.opt: fast.opt.clear_state()
        cb = Planned(low=torch.bfloat16)
        fast.fit(2, 1e-2, cbs=cb)
        f = fast.opt.flats[0,True]
        seen.append((cb.held, *(o.data_ptr() for o in (f.p, f.m, f.rows, fast.opt.counter)), flat(fast.model)))
    assert [o[0] for o in seen]==[False,True,True] and seen[0][1:-1]==seen[1][1:-1]==seen[2][1:-1]
    assert seen[0][-1].equal(seen[2][-1])
    assert all(o.float().equal(p.bfloat16().float()) for p,o in zip(fast.opt.trained, fast.opt.copies))
    fast.opt.planned_step([torch.ones_like(p) for p in fast.opt.trained]) # one more than planned
    assert flat(fast.model).equal(seen[2][-1]) and fast.opt.settle()==fast.opt.count==26

def test_plan_after_the_weights_moved():
    fast = learner(pair()[1])
    fast.fit(1, 1e-2, cbs=Planned)
    before = flat(fast.model)
    fast.model.to(memory_format=torch.channels_last)
    assert not fast.opt.plan([.1]) and flat(fast.model).equal(before)
    fast.opt.plan([.1])
    fast.model[0].weight.data = fast.model[0].weight.data.clone()
    assert fast.opt.plan([.1]) and flat(fast.model).equal(before) and fast.model[0].weight.data_ptr()==fast.opt.flats[0,
            True].p.data_ptr()

def test_saved_in_the_middle_of_a_plan(tmp_path):
    class Keeping(Callback):
        order = 80
        def after_epoch(self): self.learn.save(f'x{self.epoch}')
    ref,fast = (learner(o, tmp_path/n) for o,n in zip(pair(), 'ab'))
    ref.fit_flat_cos(3, 1e-2, cbs=Keeping)
    fast.fit(3, 1e-2, cbs=[Planned,Keeping])
    for i in range(3):
        for o in (ref,fast): o.load(f'x{i}', with_opt=True)
        for o in (ref,fast): o.opt.set_hypers(lr=1e-2)
        assert ref.opt.count==13*(i+1)
        same_books(ref.opt, fast.opt)

def test_rows():
    t = rows([.1]*12, [.9]*12, sqr_mom=.99, wd=.01, eps=1e-6)
    assert t.dtype==double and t.shape==(12,8)
    assert (t[:5,3]==0).all() and (t[5:,3]>0).all() and (t[:5,4]>0).all() and (t[5:,4]==0).all()
    assert t[:,7].nonzero().flatten().tolist()==[5,11]
    assert t[0,0]==1-.1*.01 and t[0,4]==.1/(1-.9)
    assert rows([.1]*12, [.9]*12, .99, .01, 1e-6, t=5, look=LookBack(5))[0,[3,7]].gt(0).all()

@pytest.mark.parametrize('kw,line', [
    (dict(lrs=[]), 'at least one step'), (dict(lrs=[[.1]*4]), 'one number, or 1'),
    (dict(lrs=[.1]*3, moms=[.9]*2), 'as many momenta'), (dict(lrs=[.1], moms=[1.]), 'below 1'),
    (dict(lrs=[.1], moms=[-.1]), 'at least 0')])
def test_plan_refuses(kw, line):
    opt = FlatRanger([nn.Parameter(torch.zeros(3))], lr=.1)
    with pytest.raises(BadInput, match=line): opt.plan(**kw)

def test_what_cannot_be_planned():
    a,b = (nn.Parameter(torch.zeros(3, dtype=o)) for o in (single,double))
    with pytest.raises(BadInput, match='one device'): FlatRanger([a,b], lr=.1).plan([.1])
    with pytest.raises(BadInput, match='float32 or'): FlatRanger([nn.Parameter(a.data.half())], lr=.1).plan([.1])
    with pytest.raises(BadInput, match='to train'):
        FlatRanger([nn.Parameter(a.data, requires_grad=False)], lr=.1).plan([.1])
    c = nn.Parameter(torch.zeros(3))
    opt = FlatRanger([a,c], lr=.1)
    a.grad = torch.ones(3)
    opt.step()
    with pytest.raises(BadInput, match=r'at \[0, 1\]'): opt.plan([.1])
    c.grad = torch.ones(3)
    opt.clear_state()
    opt.plan([.1])
    opt.step()
    with pytest.raises(BadInput, match='comes before'): opt.planned_step()
    with pytest.raises(BadInput, match='twice'): FlatRanger([a,a], lr=.1)
    with pytest.raises(NotImplementedError): opt.step(lambda: 0)


# The kernel

def buffers(n, dtype, device='cpu'):
    g = torch.Generator().manual_seed(0)
    ts = [torch.randn(n, generator=g, dtype=dtype) for _ in range(5)]
    ts[3].abs_()
    return [o.to(device) for o in ts]

def kernel_against_torch(device, dtype=single, beta=0., low=None, grad=None, n=3000, steps=14):
    "Both planned steps, 14 of them and two past the end, with one rounding of difference at most per step"
    from woofbench.fast.ranger_kernel import ranger_step_
    table = rows([.01*(1+i%3) for i in range(steps)], [.9-.01*i for i in range(steps)], .99, .1, 1e-6)
    table = torch.cat([table, torch.tensor([[1.,0,0,0,0,1,1,0]], dtype=double)]).to(device, dtype)
    res = []
    for f in (ranger_step_, torch_step_):
        p,g,m,v,slow = buffers(n, dtype, device)
        small,count = None if low is None else p.to(low),torch.zeros(1, dtype=torch.int64, device=device)
        for i in range(steps+2):
            f(SimpleNamespace(p=p, g=(g*(1+i)).to(grad or dtype), m=m, v=v, slow=slow, low=small, rows=table), count,
              beta)
            count += 1
        res.append((p, m, v, slow))
        if low is not None: torch.testing.assert_close(small.float(), p.float(), rtol=2**-7, atol=1e-30)
    tol = 1e-5 if dtype==single else 1e-12
    for a,b in zip(*res): torch.testing.assert_close(a, b, rtol=tol, atol=tol)

cases = [dict(), dict(dtype='float64'), dict(beta=20.), dict(low='bfloat16'), dict(grad='bfloat16'), dict(n=1),
         dict(n=1024), dict(steps=1)]

def types(o): return {k:getattr(torch, v) if isinstance(v, str) else v for k,v in o.items()}

inner = '''
import sys
sys.path.insert(0, {tests!r})
import test_flat_ranger as t, woofbench.fast.ranger as f
from woofbench.fast.ranger_kernel import ranger_step_
for o in t.cases: t.kernel_against_torch('cpu', **t.types(o))
f._step_on = lambda device: ranger_step_
t.planned_against_fastai(fits=(1,1))
t.planned_against_fastai(fits=(1,1), dtype=t.single, tol=1e-5, cbs=[t.ChannelsLast])
print('equal')
'''

def test_kernel_in_the_interpreter():
    pytest.importorskip('triton', reason='there is no Triton for this platform')
    p = python(inner.format(tests=str(Path(__file__).parent)), env=os.environ|dict(TRITON_INTERPRET='1'))
    assert p.returncode==0 and p.stdout.split()[-1]=='equal', p.stderr

def test_triton_is_not_imported_on_the_cpu():
    code = ('import sys, torch; from woofbench.fast.ranger import FlatRanger; w = '
            'torch.nn.Parameter(torch.ones(3)); o = FlatRanger([w], lr=.1); o.plan([.1]); w.grad = '
            'torch.ones(3); o.planned_step(); print("woofbench.fast.ranger_kernel" in sys.modules)')
    assert python(code).stdout.strip()=='False'

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

@no_gpu
@pytest.mark.cuda
@pytest.mark.parametrize('case', cases, ids=str)
def test_kernel_on_a_gpu(case): kernel_against_torch('cuda', **types(case))

def gpu_walk(make, planned=False, n=40, channels_last=True):
    "A network on the GPU with random gradients; ours with a captured step if `planned`"
    m = net(single).cuda()
    if channels_last: m = m.to(memory_format=torch.channels_last)
    opt = make(list(m.parameters()), lr=1e-2)
    sched,ps = combined_cos(.75, 1e-2, 1e-2, 1e-7),list(m.parameters())
    for p in ps: p.grad = torch.empty_like(p)
    def set_grads(i):
        g = torch.Generator().manual_seed(i)
        for p in ps: p.grad.copy_(torch.randn(p.shape, generator=g))
    graph = torch.cuda.CUDAGraph()
    if planned:
        opt.plan([sched(i/n) for i in range(n)])
        set_grads(0)
        stream = torch.cuda.Stream() # the first step compiles, and a capture must not
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream): opt.planned_step()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph): opt.planned_step()
    for i in range(int(planned), n):
        set_grads(i)
        opt.set_hyper('lr', sched(i/n))
        graph.replay() if planned else opt.step()
    if planned:
        graph.replay() # past the end
        assert opt.settle()==n and opt.count==n
    return SimpleNamespace(model=m.cpu())

@no_gpu
@pytest.mark.cuda
@pytest.mark.parametrize('planned', [False,True])
@pytest.mark.parametrize('channels_last', [False,True])
def test_on_a_gpu(planned, channels_last):
    ref,fast = pair()
    assert off(gpu_walk(fast, planned, channels_last=channels_last), gpu_walk(ref, channels_last=channels_last))<1e-5
