"Learners: what breaks off, other loaders, averages, copies and files; the layers of the fast engine outside training"
import copy
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.callback.tracker import SaveModelCallback
from fastai.data.transforms import Transform
from fastai.learner import Learner, load_learner
from torch import nn
from torch.nn import functional as F
from conftest import tiny_dataset
from woofbench.train.machine import Machine
from woofbench import BadInput, learner
from woofbench.fast.fused import MishFunction, QuickMish, fuse_layers

engines = pytest.mark.parametrize('engine', ('fastai','fast'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tiny_dataset(tmp_path_factory.mktemp('learner')/'ds', n_train=16, n_val=8)

@pytest.fixture(scope='module')
def other(tmp_path_factory):
    "The same names with other pixels"
    return tiny_dataset(tmp_path_factory.mktemp('other')/'ds2', classes='bca', n_train=16, n_val=8)

def make(folder, **kw):
    res = learner('imagenette', data=folder, **dict(size=32, arch='xresnet10_tiny', act='mish', bs=8, workers=0) | kw)
    res.remove_cb(ProgressCallback)
    res.logger = lambda *a: None
    return res

def weights(m): return torch.cat([o.detach().float().flatten() for o in m.state_dict().values()])

class Raise(Callback):
    "Raise `what` at the event `at`, in the second epoch if `late`"
    order = 70
    def __init__(self, at, what=KeyboardInterrupt, late=False):
        def stop():
            if self.epoch>=late: raise what('stopped here')
        self.at = at
        setattr(self, at, stop)


# What breaks off

events = ('before_batch','after_pred','after_loss','before_backward','after_step','before_validate','after_validate',
          'after_epoch')

@engines
@pytest.mark.parametrize('at', events)
def test_autocast_is_off_after_anything_that_breaks_off(folder, engine, at):
    l = make(folder, engine=engine, precision='bf16', ema=.9)
    with pytest.raises(RuntimeError): l.fit(1, 1e-2, cbs=Raise(at, RuntimeError))
    assert not torch.is_autocast_enabled('cpu')
    torch.autocast_increment_nesting()
    assert torch.autocast_decrement_nesting()==0
    assert F.linear(torch.ones(1, 3), torch.ones(2, 3)).dtype==torch.float32
    assert l.model is not None and not any(isinstance(o, Raise) for o in l.cbs)
    l.fit(1, 1e-2) # and it goes on

@engines
def test_nobody_trains_while_autocast_is_on(folder, engine):
    l = make(folder, engine=engine)
    with torch.autocast('cpu', torch.bfloat16), pytest.raises(BadInput, match='autocast is on'): l.fit(1)

def test_a_forward_pass_that_breaks_off_leaves_no_copies_of_weights(folder):
    l = make(folder, precision='bf16')
    h = l.model[-1].register_forward_pre_hook(lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt): l.fit(1, 1e-2)
    h.remove()
    x = torch.randn(2, 3, 32, 32)
    l.model.eval()
    with torch.no_grad():
        for o in l.model.parameters(): o.zero_()
        with torch.autocast('cpu', torch.bfloat16): assert l.model(x).abs().sum()==0


# Loaders

changes = dict(
    dls=lambda l,o: setattr(l, 'dls', o.dls),
    train=lambda l,o: l.dls.loaders.__setitem__(0, o.dls.train),
    valid=lambda l,o: l.dls.loaders.__setitem__(1, o.dls.valid),
    bs=lambda l,o: setattr(l.dls.train, 'bs', 6),
    items=lambda l,o: setattr(l.dls.train_ds.tls[0], 'items', l.dls.train_ds.tls[0].items.iloc[::-1]),
    size=lambda l,o: setattr(next(f for f in l.dls.train.after_item.fs if hasattr(f, 'min_scale')), 'size', (64,64)),
    indices=lambda l,o: setattr(l.dls.train, 'get_idxs', lambda: list(range(16))),
    labels=lambda l,o: setattr(l.dls.valid_ds.tls[1], 'items', l.dls.valid_ds.tls[1].items.iloc[::-1]),
    tfms=lambda l,o: l.dls.train.after_item.add(Transform(lambda x: x)),
)

@pytest.mark.parametrize('k', changes)
def test_other_loaders_are_the_ones_that_are_used(folder, other, k, capsys):
    "What trains and what is measured is as with plain fastai on the same loaders"
    seen,fast = [],make(folder, engine='fast')
    class See(Callback):
        order = 60
        def before_batch(self): seen.append((self.training, type(self.dl).__name__, len(self.yb[0])))
    with fast.no_bar(): fast.fit(1, 1e-3, cbs=See())
    assert {o[1] for o in seen}=={'Batches'} and 'note' not in capsys.readouterr().out
    seen.clear()
    changes[k](fast, make(other, engine='fast', size=64 if k=='dls' else 32))
    with fast.no_bar(): fast.fit(1, 1e-3, cbs=See())
    kinds = {t:{n for tt,n,_ in seen if tt==t} for t in (True, False)}
    part = dict(valid=[False], train=[True], bs=[True], items=[True], labels=[False], size=[True], indices=[True],
                tfms=[True]).get(k, [True, False])
    assert all(kinds[t]=={'TfmdDL'} for t in part), kinds
    assert capsys.readouterr().out.count('fastai reads their images itself')==1
    preds,y = fast.get_preds()
    assert fast.validate()[1]==pytest.approx(float((preds.argmax(1)==y).float().mean()), abs=1e-6)


# Centralised gradients

@engines
def test_weights_of_one_number_a_filter_train_with_centralised_gradients(folder, engine):
    l = make(folder, engine=engine, conv='twist', centralize=True, opt='adam')
    was = {k:o.detach().clone() for k,o in l.model.named_parameters() if o.ndim>1 and o[0].numel()==1}
    l.fit(1, 1e-2)
    now = dict(l.model.named_parameters())
    assert was and not any(torch.equal(now[k], o) for k,o in was.items() if k[0] in '012') # the stem


# Averages of weights

@engines
def test_what_is_saved_is_what_was_scored(folder, engine, tmp_path):
    l = make(folder, engine=engine, ema=.9)
    l.path = tmp_path
    best = SaveModelCallback(monitor='valid_loss')
    with l.no_bar(): l.fit(3, 1e-2, cbs=best)
    assert l.validate()[0]==pytest.approx(float(best.best), abs=1e-4)

@engines
@pytest.mark.parametrize('at', ('before_validate','after_validate','after_epoch','after_step'))
def test_a_fit_that_breaks_off_leaves_the_network_in_its_place(folder, engine, at):
    l = make(folder, engine=engine, ema=.9)
    net = l.model
    with pytest.raises(KeyboardInterrupt): l.fit(2, 1e-2, cbs=Raise(at))
    assert l.model is net and all(p is q for p,q in zip(net.parameters(), (p for g in l.opt.param_lists for p in g)))
    before = weights(net).clone()
    l.fit(1, 1e-2)
    assert l.model is net and not torch.equal(before, weights(net))

@engines
def test_a_second_fit_begins_where_the_average_is(folder, engine):
    "Slow weights from before the average would pull the network back: with rate 0 nothing may move"
    l = make(folder, engine=engine, ema=.99, wd=0.)
    l.fit(2, 1e-2)
    was = [o.detach().clone() for o in l.model.parameters()]
    l.fit(2, 0.)
    assert all(torch.allclose(a, b, atol=1e-7) for a,b in zip(was, l.model.parameters()))

@engines
@pytest.mark.parametrize('kw', (dict(ema=.9), dict(average='tail', average_start=.1)), ids=str)
def test_an_average_keeps_the_largest_singular_value_at_1(folder, engine, kw):
    "An average of the vectors that find this value does not find that of the averaged weight"
    seen = []
    class See(Callback):
        order = 99
        def after_validate(self): seen.append(self.model[4][0].convpath[2].weight)
    l = make(folder, engine=engine, sa='simple_sa', **kw)
    l.fit(3, .1, cbs=See())
    last = l.model.eval()[4][0].convpath[2].weight
    for o in (seen[-1], last): assert torch.linalg.matrix_norm(o().detach(), 2).item()==pytest.approx(1, abs=1e-3)
    assert torch.equal(seen[-1](), last()) and last is not seen[-1], 'what was validated is what is left'

def test_weights_loaded_between_fits_are_validated(folder, tmp_path):
    l = make(folder, ema=.9)
    l.path = tmp_path
    l.save('first')
    first = l.validate()[0]
    l.fit(1, 1e-2)
    l.load('first')
    assert l.validate()[0]==pytest.approx(first, abs=1e-5)


@engines
@pytest.mark.parametrize('how', ('load','by hand'))
def test_slow_weights_follow_weights_that_were_changed(folder, engine, how, tmp_path):
    "With rate 0 nothing may move, wherever the weights came from"
    l = make(folder, engine=engine, wd=0.)
    l.path = tmp_path
    l.save('first', with_opt=False)
    l.fit(2, 1e-2)
    if how=='load': l.load('first', with_opt=False)
    else: l.model.load_state_dict(torch.load(tmp_path/'models/first.pth'))
    was = [o.detach().clone() for o in l.model.parameters()]
    l.fit(2, 0.)
    assert all(torch.allclose(a, b, atol=1e-7) for a,b in zip(was, l.model.parameters()))


# Copies and files

@engines
@pytest.mark.parametrize('kw', ({}, dict(ema=.9, precision='bf16', channels_last=True), dict(mixup=.4), dict(erase=.3)),
                         ids=str)
def test_export_and_copy(folder, engine, kw, tmp_path):
    l = make(folder, engine=engine, **kw)
    l.fit(1, 1e-2)
    n,steps,opt,dls = len(l.dls.train_ds),l.opt.count if hasattr(l.opt, 'count') else None,l.opt,l.dls
    l.export(tmp_path/'e.pkl')
    assert l.opt is opt and l.dls is dls and len(l.dls.train_ds)==n and getattr(l.opt, 'count', None)==steps
    assert (tmp_path/'e.pkl').stat().st_size < 3*sum(p.numel()*4 for p in l.model.parameters()) + 200_000
    back = load_learner(tmp_path/'e.pkl')
    assert isinstance(back, Learner) and torch.equal(weights(l.model), weights(back.model))
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(back.model.eval()(x), l.model.eval()(x), atol=1e-5)
    twin = copy.deepcopy(l)
    assert torch.equal(weights(l.model), weights(twin.model)) and twin.model is not l.model
    torch.manual_seed(0)
    twin.fit(1, 1e-2)
    assert not torch.equal(weights(l.model), weights(twin.model))

def test_a_copy_trains_on_the_decoded_images_unless_its_loaders_changed(folder, capsys):
    l = make(folder, engine='fast')
    copy.deepcopy(l).fit(1, 1e-2)
    assert 'note' not in capsys.readouterr().out
    l.dls.train.bs = 6
    copy.deepcopy(l).fit(1, 1e-2)
    assert 'fastai reads their images itself' in capsys.readouterr().out

@engines
def test_an_export_that_fails_takes_nothing_away(folder, engine, tmp_path):
    l = make(folder, engine=engine)
    l.fit(1, 1e-2)
    l.odd = (o for o in ()) # cannot be pickled
    opt,dls = l.opt,l.dls
    (tmp_path/'e.pkl').write_bytes(b'earlier')
    with pytest.raises(TypeError): l.export(tmp_path/'e.pkl')
    assert l.opt is opt and l.dls is dls and (tmp_path/'e.pkl').read_bytes()==b'earlier'
    l.fit(1, 1e-2)


# The fast layers, when PyTorch reads or differentiates them

@pytest.fixture(scope='module')
def pair():
    "The same network with plain and with fast layers"
    from woofbench.train.recipe import Recipe
    from woofbench.models.xresnet import build
    spec = Recipe().but(arch='xresnet10_tiny', act='mish', pool='max_blur', sa='simple_sa').model
    torch.manual_seed(0)
    a = build(spec).double().float()
    b = copy.deepcopy(a)
    fuse_layers(b)
    assert any(type(o) is QuickMish for o in b.modules())
    return a.eval(), b.eval()

def test_trace_and_script(pair, tmp_path):
    x = torch.randn(2, 3, 64, 64)
    a,b = pair
    b = copy.deepcopy(b)
    with torch.no_grad(): want = a(x)
    with torch.no_grad(): traced = torch.jit.trace(b, x, check_trace=False)
    traced.save(str(tmp_path/'t.pt'))
    assert torch.allclose(torch.jit.load(str(tmp_path/'t.pt'))(x), want, atol=1e-5)
    from woofbench.train.recipe import Recipe
    from woofbench.models.xresnet import build
    plain = build(Recipe().but(arch='xresnet10_tiny', act='mish').model).eval()
    fast = copy.deepcopy(plain)
    fuse_layers(fast)
    kinds = [type(o) for o in fast.modules()]
    assert torch.allclose(torch.jit.script(fast)(x), plain(x), atol=1e-5)
    assert [type(o) for o in fast.modules()]==kinds

def test_second_derivatives_and_functions_of_functions(pair):
    a,b = pair
    res = []
    for m in (a, b):
        x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        g, = torch.autograd.grad(m(x).pow(2).sum(), x, create_graph=True)
        twice, = torch.autograd.grad(g.pow(2).sum(), x)
        ps,bs = dict(m.named_parameters()),dict(m.named_buffers())
        def f(p, m=m, x=x, bs=bs): return torch.func.functional_call(m, (p, bs), (x.detach(),)).pow(2).sum()
        grads = torch.func.grad(f)(ps)
        out,slope = torch.func.jvp(lambda v, m=m: m(v).sum(), (x.detach(),), (torch.ones_like(x),))
        res.append((g, twice, *grads.values(), out, slope))
    for p,q in zip(*res): assert torch.allclose(p, q, rtol=1e-3, atol=1e-3*float(p.abs().max())+1e-7)

def test_mish_has_the_derivatives_of_mish():
    x = torch.linspace(-30, 30, 301, dtype=torch.float32).requires_grad_()
    def both(f):
        g, = torch.autograd.grad(f(x).sum(), x, create_graph=True)
        return g.detach(), torch.autograd.grad(g.sum(), x)[0]
    got,want = both(MishFunction.apply),both(F.mish)
    assert all(torch.allclose(p, q, atol=1e-5) for p,q in zip(got, want))
    assert torch.allclose(torch.func.vmap(torch.func.grad(lambda v: QuickMish()(v)))(x.detach()), got[0], atol=1e-5)
    assert isinstance(QuickMish(), nn.Mish)

@engines
def test_predictions_take_what_they_take_with_fastai(folder, engine):
    "A path, its text, a picture, an array; files that are in no manifest too"
    from fastai.vision.core import PILImage
    import numpy as np
    l = make(folder, engine=engine)
    path = next((folder/'val').rglob('*.JPEG'))
    picture = PILImage.create(path)
    with l.no_bar(): res = [l.predict(o)[2] for o in (path, str(path), picture, np.array(picture))]
    assert all(torch.allclose(o, res[0], atol=1e-6) for o in res)
    assert len(l.dls.test_dl([path]*3).dataset)==3


# Steps that are captured (here by the stand-in for a device without CUDA) and plain ones

def test_weights_frozen_between_fits(folder):
    "Frozen weights stay, and both kinds of steps agree, also after the weights are trained again"
    from woofbench import plan
    from woofbench.train.reuse import Reuse
    from woofbench.train.learner import make_learner
    p = plan('imagenette', data=folder, size=32, arch='xresnet10_tiny', act='mish', bs=8)
    def trained(capture):
        reuse = Reuse(capture, keep=False)
        l,paths = make_learner(p, 0, Machine(device='cpu', workers=0, engine='fast'), reuse=reuse),[]
        for frozen in (False, True, False):
            some = list(l.model.parameters())[:6]
            for o in some: o.requires_grad_(not frozen)
            was = [o.detach().clone() for o in some]
            with l.no_bar(), l.no_logging(): l.fit(1, 1e-2)
            assert not frozen or all(map(torch.equal, was, some))
            paths.append(reuse.path)
        return weights(l.model), paths
    (a,_),(b,paths) = trained(False),trained(True)
    assert paths[:2]==['captured']*2 and 'another step' in paths[2]
    assert torch.allclose(a, b, atol=1e-5)
