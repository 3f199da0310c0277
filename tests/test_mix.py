"Mixtures with draws of our own against fastai's: the same distributions, the same losses"
import random
from functools import partial
import pytest
import torch
from conftest import root  # noqa: F401  sets the caches first
from fastai.callback.core import Callback
from fastai.callback.mixup import CutMix, MixUp
from fastai.callback.schedule import Learner
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.augment import RandomErasing
from fastai.vision.core import TensorImage
from scipy.stats import ks_2samp
from torch import nn
from woofbench.train import mix
from woofbench.data.augment import cut_box
from woofbench.train.mix import SeededCutMix, SeededErasing, SeededMixUp, rectangles


class Seen(Callback):
    "Batches and what the loss makes of them"
    order = 60
    def __init__(self, mix): self.mix = mix
    def before_fit(self): self.lam,self.y1,self.x,self.loss = [],[],[],[]
    def after_loss(self):
        if not self.training: return
        self.lam += self.mix.lam.detach().flatten().tolist()
        self.y1.append(self.mix.yb1[0].clone())
        self.x.append(self.x_.clone())
        self.loss.append(self.learn.loss.detach().clone())
    def before_batch(self): self.x_ = self.learn.x

def go(mix, bs=16, n=400, side=10, device='cpu'):
    items = [(torch.rand(3,side,side+2), i%5) for i in range(bs*n)]
    seen = Seen(mix)
    dls = DataLoaders(*(DataLoader(items, bs=bs, num_workers=0, device=device) for _ in range(2)), device=device)
    learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(3*side*(side+2), 5)).to(device),
                    loss_func=CrossEntropyLossFlat(), cbs=[mix, seen])
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.)
    return seen


@pytest.mark.parametrize('ours,theirs', [(SeededMixUp,MixUp), (SeededCutMix,CutMix)])
@pytest.mark.parametrize('alpha', (.2, pytest.param(1., marks=pytest.mark.slow)))
def test_weights_are_distributed_as_fastais(ours, theirs, alpha):
    torch.manual_seed(0)
    n = 60 if ours is SeededMixUp else 500
    a,b = (go(o(alpha), n=n, bs=16 if ours is SeededMixUp else 2).lam for o in (ours,theirs))
    assert len(a)==len(b) and ks_2samp(a, b).pvalue>.001
    assert ks_2samp(a, go(ours(alpha*3), n=n,
                          bs=16 if ours is SeededMixUp else 2).lam).pvalue<1e-6, 'the test sees a difference'

def test_boxes_are_distributed_as_fastais():
    "Sides and places, for images that are no square"
    torch.manual_seed(0)
    theirs,g = CutMix(1.),torch.Generator().manual_seed(1)
    theirs.learn = type('L', (), dict(x=torch.zeros(1)))()
    w,h,lams = 30,20,torch.distributions.Beta(1., 1.).sample((4000,))
    a = torch.tensor([[int(v) for v in theirs.rand_bbox(w, h, o[None])] for o in lams])
    b = torch.tensor([cut_box(w, h, o.item(), *torch.rand(2, generator=g, dtype=torch.float64).tolist()) for o in lams])
    assert (a[:,2]<=w).all() and (b[:,2]<=w).all() and (b[:,3]<=h).all()
    for i in range(4): assert ks_2samp(a[:,i], b[:,i]).pvalue>.001
    for i in (0,1): assert ks_2samp(a[:,2+i]-a[:,i], b[:,2+i]-b[:,i]).pvalue>.001

def test_rectangles_are_distributed_as_fastais():
    random.seed(0)
    rng,tfm = random.Random(1),RandomErasing(p=.3, max_count=3, sh=.3)
    def theirs():
        if random.random()>=.3: return 0, 0., 0.
        x = tfm.encodes(TensorImage(torch.zeros(1,1,24,32)))
        gone = (x!=0)[0,0]
        return 1, gone.float().mean().item(), gone.any(1).float().mean().item()
    def ours():
        x = torch.zeros(24,32)
        boxes = rectangles(rng, 24, 32, .3)
        for t,b,l,r in boxes: x[t:b,l:r] = 1
        return int(bool(boxes)), x.mean().item(), x.any(1).float().mean().item()
    a,b = (torch.tensor([f() for _ in range(6000)]) for f in (theirs,ours))
    assert abs(a[:,0].mean()-.3)<.03 and abs(b[:,0].mean()-.3)<.03
    for i in (1,2): assert ks_2samp(a[a[:,0]>0,i], b[b[:,0]>0,i]).pvalue>.001


@pytest.mark.parametrize('ours,theirs', [(SeededMixUp,MixUp), (SeededCutMix,CutMix)])
def test_given_the_same_draws_the_batch_and_the_loss_are_fastais(ours, theirs, monkeypatch):
    "fastai's callback is handed our draws"
    torch.manual_seed(1)
    a = go(ours(.7, seed=3), n=4)
    again,ref = ours(.7, seed=3),theirs(.7)
    rows = []
    class Lend(Callback):
        "Our next draws, before fastai's callback asks"
        order = ref.order-1
        def before_batch(self):
            if self.training: rows.append(again._next())
    again.before_train,again.rows,again.at,again.n = None,[],0,0
    monkeypatch.setattr(ref.distrib, 'sample', lambda shape: torch.as_tensor(rows[-1][0]).reshape(shape))
    perm = torch.randperm
    monkeypatch.setattr(torch, 'randperm', lambda n, **kw: rows[-1][-1] if n==16 and not kw else perm(n, **kw))
    if theirs is CutMix:
        from itertools import cycle
        ends,turn = (12, 10),cycle((0,1))
        rand = torch.randint
        monkeypatch.setattr(torch, 'randint', lambda lo, hi, size,
                            **kw: torch.tensor([int(rows[-1][1][(i := next(turn))]*ends[i])]) if size==(1,)
                            else rand(lo, hi, size, **kw))
    torch.manual_seed(1)
    lend = Lend()
    ref.add = None
    items = [(torch.rand(3,10,12), i%5) for i in range(16*4)]
    seen = Seen(ref)
    dls = DataLoaders(*(DataLoader(items, bs=16, num_workers=0) for _ in range(2)))
    learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(360, 5)), loss_func=CrossEntropyLossFlat(),
                    cbs=[ref, seen, lend])
    again.learn = learn
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.)
    assert len(a.x)==len(seen.x)==4
    for x,z in zip(a.x+a.loss+a.y1, seen.x+seen.loss+seen.y1): torch.testing.assert_close(x, z)


def test_erasing_draws_for_every_epoch_and_leaves_validation_alone(monkeypatch):
    erase = SeededErasing(.9, seed=2)
    monkeypatch.setattr(mix, 'rectangles', partial(rectangles, p=1.))
    shown = []
    class Show(Callback):
        order = 60
        def before_batch(self): shown.append((self.training, bool((self.x!=1).any())))
    items = [(torch.ones(1,8,8), 0) for _ in range(12)]
    dls = DataLoaders(*(DataLoader(items, bs=4, num_workers=0) for _ in range(2)))
    learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), loss_func=CrossEntropyLossFlat(),
                    cbs=[erase, Show()])
    with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.)
    assert [b for a,b in shown if not a]==[False]*6 and sum(b for a,b in shown if a)>=5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('ours', (SeededMixUp, SeededCutMix))
def test_draws_are_the_same_on_a_gpu(ours):
    out = []
    for device in ('cpu','cuda'):
        torch.manual_seed(1)
        out.append(go(ours(.7, seed=3), n=4, device=device))
    assert out[0].lam==pytest.approx(out[1].lam)
    for x,z in zip(*(o.x for o in out)): torch.testing.assert_close(x, z.cpu())
