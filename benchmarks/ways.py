"""The ways of making a row that `benchmarks.row` compares, each as it trains one seed, gives an epoch of batches, and
is profiled."""
import math, resource, time
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
import torch

WAYS = {
    'script':  "fastai as its script has it: fp32, or fp16 on a GPU; NCHW",
    'tuned':   "the best that fastai can do unmodified: bf16 on a GPU; channels_last",
    'timm':    "timm's loaders, optimiser and loss, in a plain loop, with the row's own precision and memory format",
    'fastai':  "woofbench's reference engine with the row's own recipe",
    'fast':    "woofbench's fast engine with the row's own recipe",
}

# What differs where the ways cannot be alike
DIFFERENCES = """timm has no Ranger; lookahead_radamw is the nearest: its slow weights are first copied at the 6th
step, so the first pull back does nothing, and eps is added to another root. Its crops are drawn from the same
distribution, with the same filter, and validation images are squashed as fastai's are; its worker processes live as
long as a seed, not an epoch."""
PUBLISHED = """Published, not measured here: fastxtend (github.com/warner-benjamin/fastxtend), XResNeXt-50,
Imagenette, 20 epochs, 224 px: fastai 422 s, fastxtend 290 and 217 s (3080 Ti, 4 cores); fastai 367 s, fastxtend 225
and 194 s (3090, 16 cores). Its first step is progressive resizing, which is another recipe, together with its fused
optimiser; a warm-up epoch came first."""


def cuda(device): return device.type=='cuda'

def now(device):
    "Seconds, when the device has done what it was told to"
    if cuda(device): torch.cuda.synchronize()
    return time.perf_counter()

def memory(device):
    "Peak memory, MB: of the GPU, or of this process and its largest worker"
    if cuda(device): return torch.cuda.max_memory_allocated()>>20
    return sum(resource.getrusage(o).ru_maxrss for o in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))>>10


# fastai, by itself or as an engine

def fastai_learner(p, seed, tuned, device):
    "Loaders, model and learner as fastai's examples make them, with the recipe's numbers"
    from fastai.callback.channelslast import ChannelsLast
    from fastai.callback.fp16 import MixedPrecision
    from fastai.callback.schedule import Learner
    from fastai.losses import LabelSmoothingCrossEntropy
    from fastai.metrics import accuracy, top_k_accuracy
    from fastai.optimizer import ranger
    from fastai.torch_core import set_seed
    from woofbench.data.loaders import Batching, make_loaders
    from woofbench.train.machine import n_workers
    from woofbench.models.xresnet import build
    set_seed(seed, reproducible=True)
    r = p.recipe
    dls = make_loaders(p.manifest, p.track, Batching.of(r), n_workers(), device)
    model = build(r.model, len(p.manifest.classes), p.track.size)
    amp = [MixedPrecision(amp_mode='bf16' if tuned else 'fp16')] if cuda(device) else []
    return Learner(dls, model, opt_func=partial(ranger, mom=r.mom, sqr_mom=r.sqr_mom, eps=r.eps),
                   loss_func=LabelSmoothingCrossEntropy(eps=r.smooth), lr=r.lr, wd=r.wd,
                   metrics=[accuracy, partial(top_k_accuracy, k=min(5, len(p.manifest.classes)))],
                   cbs=amp + ([ChannelsLast()] if tuned else []))


def make(p, way, seed, device):
    "The learner of a way that has one"
    from woofbench.train.learner import make_learner
    from woofbench.train.machine import Machine
    if way in ('fastai','fast'): return make_learner(p, seed, Machine(device=device, engine=way))
    return fastai_learner(p, seed, way=='tuned', device)


def make_timer(device):
    "A callback that keeps the seconds of every epoch's training and validation"
    from fastai.callback.core import Callback
    class Timer(Callback):
        order = 90
        def before_fit(self): self.curve = []
        def before_train(self): self.t = now(device)
        def before_validate(self):
            self.trained = now(device)-self.t
            self.t = now(device)
        def after_validate(self): self.curve.append(dict(train_s=self.trained, eval_s=now(device)-self.t))
    return Timer()


def fastai_seed(p, way, seed, device):
    learn,timer = fastai_learner(p, seed, way=='tuned', device),make_timer(device)
    with learn.no_bar(), learn.no_logging(), learn.added_cbs([timer]):
        learn.fit_flat_cos(p.track.epochs, p.recipe.lr, wd=p.recipe.wd, pct_start=p.recipe.pct_start)
    return timer.curve, round(float(learn.recorder.values[-1][2])*len(p.manifest.val))


# timm

def timm_parts(p, seed, device):
    "What timm has to offer for the row: loaders, optimiser, loss; and woofbench's network"
    import random
    from timm.data import ImageDataset, create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from woofbench.train.machine import n_workers
    from woofbench.models.xresnet import build
    random.seed(seed)
    torch.manual_seed(seed)
    r,size = p.recipe,p.track.size
    if r.opt!='ranger': raise SystemExit('the way timm is for recipes with Ranger')
    big = size + math.ceil(size*.14/8)*8 # fastai squashes validation images to so many px and cuts out the centre
    kw = dict(input_size=(3,size,size), batch_size=r.bs, interpolation='bilinear', num_workers=n_workers(),
              use_prefetcher=cuda(device), pin_memory=cuda(device),
              device=device) | ({} if r.normalize else dict(mean=(0.,)*3, std=(1.,)*3))
    train = create_loader(ImageDataset(str(p.manifest.root/'train')), is_training=True, scale=(r.min_scale,1.),
                          ratio=(3/4,4/3), hflip=r.flip, color_jitter=None, **kw)
    valid = create_loader(ImageDataset(str(p.manifest.root/'val')), crop_pct=size/(big+.5), crop_mode='squash', **kw)
    model = build(r.model, len(p.manifest.classes), size).to(device,
                                                             memory_format=torch.channels_last if r.channels_last
                                                             else torch.contiguous_format)
    opt = create_optimizer_v2(model, 'lookahead_radamw', lr=r.lr, weight_decay=r.wd, betas=(r.mom,r.sqr_mom), eps=r.eps)
    return SimpleNamespace(train=train, valid=valid, model=model, opt=opt,
                           loss_func=LabelSmoothingCrossEntropy(r.smooth))


def timm_seed(p, seed, device, tick=lambda: False):
    "Seconds of every epoch, and correct predictions after the last; `tick` is called after every step and may end it"
    t,r = timm_parts(p, seed, device),p.recipe
    fmt = torch.channels_last if r.channels_last else torch.contiguous_format
    half = dict(bf16=torch.bfloat16, fp16=torch.float16).get(r.precision)
    def cast(): return torch.autocast(device.type, dtype=half) if half else nullcontext()
    def batches(dl):
        for x,y in dl: yield x.to(device).contiguous(memory_format=fmt), y.to(device)
    curve,i,n = [],0,len(t.train)*p.track.epochs
    for _ in range(p.track.epochs):
        begin = now(device)
        t.model.train()
        for x,y in batches(t.train):
            # flat, then a cosine
            for g in t.opt.param_groups: g['lr'] = r.lr*(1+math.cos(math.pi*max(0, i/n-r.pct_start)/(1-r.pct_start)))/2
            with cast(): loss = t.loss_func(t.model(x).float(), y)
            t.opt.zero_grad()
            loss.backward()
            t.opt.step()
            i += 1
            if tick(): return None
        trained = now(device)
        t.model.eval()
        with torch.no_grad(), cast(): correct = sum((t.model(x).argmax(1)==y).sum() for x,y in batches(t.valid))
        curve.append(dict(train_s=trained-begin, eval_s=now(device)-trained))
    return curve, int(correct)


# What can be asked of a way

def train(p, way, seed, device, reuse=None):
    "Seconds and accuracy of one seed; `reuse` is what the fast engine keeps from seed to seed"
    t = time.perf_counter()
    if way in ('fastai','fast'):
        from woofbench.train.learner import fit
        from woofbench.train.machine import Machine
        run = fit(p, seed, Machine(device=device, engine=way), reuse=reuse)
        curve,correct = run.curve,run.correct
    else: curve,correct = timm_seed(p, seed, device) if way=='timm' else fastai_seed(p, way, seed, device)
    return dict(seed=seed, seconds=time.perf_counter()-t, curve=[{k:o[k] for k in ('train_s','eval_s')} for o in curve],
                acc=100*correct/len(p.manifest.val), mem_mb=memory(device))


def epoch_of_batches(p, way, seed, device):
    "One training epoch, as the network would see it"
    if way=='timm': return timm_parts(p, seed, device).train
    from woofbench.data.batches import FastData
    learn = make(p, way, seed, device)
    learn.dl = learn.dls.train
    for cb in learn.cbs:
        if isinstance(cb, FastData): cb('before_train')
    return learn.dl


def loader(p, way, seed, device):
    "Images per second of an epoch of training batches, with nothing done to them"
    dl = epoch_of_batches(p, way, seed, device)
    t,n = now(device),0
    for x,_ in dl: n += len(x)
    return dict(loader=n/(now(device)-t))


def precision(p, way, device):
    "What the products of a way are done in"
    if way=='script': return 'fp16' if cuda(device) else 'fp32'
    if way=='tuned': return 'bf16' if cuda(device) else 'fp32'
    return p.recipe.precision


def rate(p, way, device, squares):
    "The best matrix product of the way's precision, and the work of a seed"
    from benchmarks import bound
    from woofbench.models.costs import cost
    m = p.manifest
    macs = cost(p.recipe.model, p.track.size, len(m.classes))['macs']
    work = None if macs is None or p.recipe.progressive<1 else bound.work(macs, len(m.train), p.recipe.bs, len(m.val),
                                                                          p.track.epochs)
    kind = precision(p, way, device)
    return bound.best(p, kind, device, squares) | dict(work=work, precision=kind)


PARTS = ('optimiser','loader')
PRODUCTS = ('conv','mm','linear') # in the names of operations

def parts_of(events, wall, steps):
    "Milliseconds of a step by what they are spent on; what is in no operation is Python"
    ms = dict.fromkeys(('convolutions','norms and activations',*PARTS), 0.)
    for e in events:
        at,up = e,[]
        while at is not None:
            up.append(at.name)
            at = at.cpu_parent
        inside = next((o for o in PARTS if f'part: {o}' in up), None)
        product = any(o in name for name in up for o in PRODUCTS)
        ms[inside or ('convolutions' if product else 'norms and activations')] += e.self_cpu_time_total/1e3/steps
    return ms | dict(Python=max(0., wall*1e3/steps-sum(ms.values())))


class Profile:
    "Watches the second `steps` steps of a training; `tick` is called after every step, and says when to stop"
    def __init__(self, device, steps=6):
        from torch.profiler import ProfilerActivity, profile
        self.device,self.steps,self.n = device,steps,0
        self.prof = profile(activities=[ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda(device) else []))
    def tick(self):
        self.n += 1
        if self.n==self.steps:
            now(self.device)
            self.prof.start()
            self.t = time.perf_counter()
        if self.n==2*self.steps:
            self.wall = now(self.device)-self.t
            self.prof.stop()
        return self.n>=2*self.steps
    def facts(self):
        events,key = self.prof.key_averages(),'self_device_time_total' if cuda(self.device) else 'self_cpu_time_total'
        count = sum(o.count for o in events if not cuda(self.device) or o.device_type==torch.autograd.DeviceType.CUDA)
        parts = {} if cuda(self.device) else parts_of(self.prof.events(), self.wall, self.steps)
        top = [(o.key, getattr(o, key)/1e3/self.steps) for o in sorted(events, key=lambda o: -getattr(o, key))[:15]]
        return dict(step_ms=self.wall/self.steps*1e3, kernels=count/self.steps,
                    busy=sum(getattr(o, key) for o in events)/1e6/self.wall, top=top, parts=parts)


def profile(p, way, seed, device):
    "Kernels per step, share of the time that the device is busy, and the dearest operations"
    from fastai.callback.core import Callback, CancelFitException
    prof = Profile(device, max(1, min(6, len(p.manifest.train)//p.recipe.bs//2)))
    class Ticks(Callback):
        order,part = 95,None
        def begin(self, name=None):
            if self.part: self.part.__exit__(None, None, None)
            self.part = name and torch.profiler.record_function(f'part: {name}').__enter__()
        def before_batch(self):
            if self.training: self.begin()
        def before_step(self): self.begin('optimiser')
        def after_step(self): self.begin()
        def after_batch(self):
            self.begin()
            if prof.tick(): raise CancelFitException()
            self.begin('loader')
    if way=='timm': timm_seed(p, seed, device, prof.tick)
    else:
        learn = make(p, way, seed, device)
        with learn.no_bar(), learn.no_logging(), learn.added_cbs([Ticks()]): learn.fit_flat_cos(1, p.recipe.lr)
    if prof.n<2*prof.steps: raise SystemExit(f'an epoch has no {2*prof.steps} steps to look at')
    return prof.facts()
