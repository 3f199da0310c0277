"The fast engine against the reference: the same images, the same steps, the same learner"
import json
import pytest
import torch
from conftest import root  # noqa: F401  sets the caches first
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.vision.core import TensorImage
from fasttransform import Transform
from woofbench.train.job import Job
from woofbench.train.machine import Machine
from woofbench.data.manifest import find, verify
from fastai.callback.mixup import CutMix, MixUp
from fastai.callback.schedule import ParamScheduler, SchedCos
from fastai.callback.tracker import SaveModelCallback
from fastai.callback.training import GradientClip
from woofbench.data import batches as fast_module
from woofbench.data.batches import FastData, load_images, valid_bs
from woofbench.fast.graph import Graph
from woofbench.train.callbacks import Ema
from woofbench.train.recipe import engines, recipes
from woofbench.train.reuse import Reuse
from woofbench.commands.run import learner
from woofbench.train.multi_seed import train_seeds
from woofbench.data.track import make_track
from woofbench.train.learner import fit, make_learner


@pytest.fixture(scope='module')
def digits():
    track = make_track('digits', epochs=1)
    return track, recipes('digits')(), verify(find(track), 'digits')


tiny = dict(arch='xresnet10_tiny', widths=(8,16,32,64))

@pytest.fixture(scope='module')
def small(digits):
    "Where runs are compared with each other"
    return make_track('digits', size=16, epochs=1), digits[1].but(**tiny), digits[2]


def data_of(learn): return next(o for o in learn.cbs if isinstance(o, FastData))


def batches(learn, train):
    "One epoch of batches as the learner would see them"
    learn.dl = learn.dls.train if train else learn.dls.valid
    data_of(learn)('before_train' if train else 'before_validate')
    return list(learn.dl)


def test_validation_images_are_the_references(digits):
    track,recipe,m = digits
    fast,ref = (make_learner(Job(track, recipe, m), machine=Machine(device='cpu', workers=0, engine=o))
                for o in engines[::-1])
    for (a,y),(b,z) in zip(batches(fast, False), ref.dls.valid):
        assert torch.equal(a.as_subclass(torch.Tensor), b.as_subclass(torch.Tensor)) and y.tolist()==z.tolist()


class Brighter(Transform):
    "A batch transform that the fast engine knows nothing about"
    order = 100
    def encodes(self, x:TensorImage): return x+1


@pytest.mark.parametrize('change', [{}, dict(normalize=False), dict(channels_last=True), 'more transforms'], ids=str)
def test_training_batches_are_what_the_loaders_own_transforms_make(digits, change):
    """Where the transforms are the usual ones, crops become floats in threads, to the same bits; where there are
    more, the loader does all of it"""
    from woofbench.data.batches import plain
    track,recipe,m = digits
    more = change=='more transforms'
    recipe = recipe if more else recipe.but(**change)
    learn = make_learner(Job(track, recipe, m), machine=fast_cpu)
    dl,data = learn.dls.train,data_of(learn)
    if more: dl.after_batch.add(Brighter())
    assert (plain(dl.after_batch) is None)==more
    state = data.generator.get_state()
    got,y = next(iter(data._batches(dl, *data.epoch(plain(dl.after_batch)))))
    data.generator.set_state(state)
    images,ys = data.epoch()
    ref, = dl.after_batch((TensorImage(images(slice(0, recipe.bs)).permute(0,3,1,2)),))
    assert torch.equal(got.as_subclass(torch.Tensor), ref.as_subclass(torch.Tensor))
    assert y.tolist()==ys[:recipe.bs].tolist() and got.is_contiguous(memory_format=torch.channels_last
                                                                     if recipe.channels_last else torch.contiguous_format) # noqa: E501


def test_epochs_have_every_image_once_and_differ(digits):
    track,recipe,m = digits
    learn = make_learner(Job(track, recipe, m), machine=fast_cpu)
    first,second = (batches(learn, True) for _ in range(2))
    assert len(first)==len(m.train)//recipe.bs and all(len(x)==recipe.bs for x,_ in first)
    assert not torch.equal(first[0][0], second[0][0])
    counts = torch.bincount(torch.cat([y for _,y in first]).as_subclass(torch.Tensor), minlength=10)
    assert (torch.tensor([sum(m.label(o)==c for o in m.train)
                          for c in m.classes])-counts).clamp(min=0).sum()==len(m.train)%recipe.bs


class Losses(Callback):
    order = 80
    def before_fit(self): self.all = []
    def after_batch(self):
        if self.training: self.all.append(self.loss.item())


class Same:
    "Batches that were made before, in place of a loader"
    def __init__(self, bs, dl): self.bs,self.dl = bs,dl
    def __len__(self): return len(self.bs)
    def __iter__(self): return iter(self.bs)
    def __getattr__(self, k): return getattr(self.__dict__['dl'], k)


def test_same_weights_and_batches_give_the_same_losses(digits):
    """Twenty steps in double precision, where rounding has no time to grow; and at the end weights that have moved
    far, and alike"""
    track,recipe,m = digits
    made = {o: make_learner(Job(track, recipe, m), 3, Machine(device='cpu', workers=0, engine=o)) for o in engines}
    start = torch.nn.utils.parameters_to_vector(made['fast'].model.parameters()).detach().clone()
    assert torch.equal(start, torch.nn.utils.parameters_to_vector(made['fastai'].model.parameters()))
    twenty = [(x.double(), y) for x,y in batches(made['fast'], True)[:20]]
    losses,ends = {},{}
    for name,learn in made.items():
        seen = Losses()
        learn.model.double()
        learn.remove_cb(FastData)
        learn.dls = DataLoaders(Same(twenty, learn.dls.train), Same(twenty[:1], learn.dls.valid), device='cpu')
        with learn.no_bar(), learn.no_logging(), learn.removed_cbs([learn.recorder]), learn.added_cbs([seen]):
            learn.fit_flat_cos(1, recipe.lr)
        losses[name],ends[name] = torch.tensor(
                seen.all),torch.nn.utils.parameters_to_vector(learn.model.parameters()).detach()
    assert len(losses['fast'])==20 and losses['fast'][-1] < losses['fast'][0]-.1
    torch.testing.assert_close(losses['fast'], losses['fastai'], rtol=1e-6, atol=1e-6)
    assert (ends['fast']-ends['fastai']).norm() < 1e-5*(ends['fastai']-start).norm()


def test_a_seed_repeats(small):
    track,recipe,m = small
    recipe = recipe.but(bs=128)
    def go(seed): return fit(Job(track, recipe, m), seed, fast_cpu)
    a,b,c = go(seed=0),go(seed=0),go(seed=1)
    assert (a.preds,a.init_sha256)==(b.preds,b.init_sha256) and a.init_sha256!=c.init_sha256
    assert a.init_sha256==fit(Job(track, recipe, m), 0, Machine(device='cpu', workers=0)).init_sha256


@pytest.mark.parametrize('change',
                         [dict(mixup=.2), dict(cutmix=1.), dict(erase=.3), dict(ema=.9), dict(centralize=True),
                          dict(gamma_l2=1e-4), dict(opt='sgd'), dict(beta=50.),
                                    dict(precision='bf16', channels_last=True), dict(sched='one_cycle'),
                                    dict(stem='whitening'), dict(sa='simple_sa', pool='max_blur',
                                                                 block='reduce_first')], ids=str)
def test_every_option_works(digits, change):
    track,recipe,m = digits
    run = fit(Job(track, recipe.but(bs=128, **change), m), machine=fast_cpu)
    assert not run.diverged and run.correct>40 or 'opt' in change


def test_it_is_a_learner(tmp_path):
    "Predictions for other files, learning rates, saving and loading"
    learn = learner('digits', engine='fast', device='cpu')
    with learn.no_bar(), learn.no_logging(), learn.no_mbar(): learn.fit_flat_cos(1, 2e-2)
    _,acc,_ = learn.validate()
    files = [learn.dls.valid.items.path.iloc[i] for i in range(8)]
    assert acc>.3 and len(files)==8
    assert learn.get_preds(dl=learn.dls.test_dl(learn.dls.valid.items[:8], with_labels=True))[0].shape==(8,10)
    learn.path = tmp_path
    learn.save('there', with_opt=True)
    learn.load('there', with_opt=True)
    assert learn.lr_find(num_it=5, show_plot=False).valley>0
    learn.dls.show_batch(max_n=2)
    learn.show_results(max_n=2)


def test_runs_of_two_engines_are_two_rows(cli, refused, tmp_path):
    assert 'fast' in refused(f'run --engine quick --out {tmp_path}')
    how = f'--size 16 --epochs 1 --seeds 1 --bs 128 --workers 0 --out {tmp_path}'
    for o in engines: assert cli(f'run --engine {o} {how}')[0]==0
    recs = [json.loads(o.read_text()) for o in tmp_path.rglob('records/**/*.json')]
    assert {o['engine'] for o in recs}==set(engines) and len({o['config_id']
                                                              for o in recs})==1 and len({o['env']['context']
                                                                      for o in recs})==2


# Recorded steps: on a processor by a stand-in, which goes the same way and repeats nothing

cpu = torch.device('cpu')
def numbers(r): return r.correct, r.preds, r.init_sha256, [{k:v for k,v in o.items() if k[-2:]!='_s'} for o in r.curve]
fast_cpu = Machine(device='cpu', engine='fast')

def rows(digits, recipe, seeds, device=cpu, seeds_at_once=1, **kw):
    job,machine = Job(digits[0], recipe, digits[2]),Machine(device=device, engine='fast', seeds_at_once=seeds_at_once)
    return {r.seed:numbers(r) for r in train_seeds(job, seeds, machine, **{'capture':True} | kw)}

def captured(digits, recipe=None):
    job = Job(digits[0], recipe or digits[1], digits[2])
    return make_learner(job, machine=fast_cpu, reuse=Reuse(capture=True, keep=False))
def fit_quietly(learn, epochs=1, cbs=()):
    with learn.no_bar(), learn.no_logging(): learn.fit_flat_cos(epochs, 2e-2, cbs=list(cbs))
    return learn


changes = [{}, dict(mixup=.4), dict(cutmix=1.), dict(erase=.3), dict(precision='bf16', channels_last=True, mixup=.4),
           dict(sched='one_cycle'), dict(beta=50., sa='simple_sa', pool='max_blur', block='reduce_first')]

@pytest.mark.parametrize('change', changes, ids=str)
def test_a_seed_is_the_same_alone_and_after_others(digits, small, change):
    """With one capture for all, to the bit, with the weights it always began with; and close to what ordinary
    steps give"""
    if 'pool' not in change: digits = small
    recipe = digits[1].but(bs=128, **change)
    said = []
    row = rows(digits, recipe, [3,4], say=said.append)
    assert said==['engine fast: captured']
    assert row[4]==rows(digits, recipe, [4])[4] and row[3]!=row[4]
    ordinary = numbers(fit(Job(*digits[:1], recipe, digits[2]), 4, fast_cpu))
    assert ordinary[2]==row[4][2]
    assert ordinary[3][0]['train_loss']==pytest.approx(row[4][3][0]['train_loss'], abs=.03)


def test_growing_images_have_a_capture_for_each_size(digits):
    track,recipe,m = make_track('digits', size=64, epochs=1), digits[1].but(bs=128, progressive=.5, **tiny), digits[2]
    with Reuse(capture=True) as reuse:
        a = fit(Job(track, recipe, m), 1, fast_cpu, reuse=reuse)
        made = list(reuse.graph.captured.values())
        assert sorted(o.x.shape[-1] for o in made)==[32,64]
        b = fit(Job(track, recipe, m), 2, fast_cpu, reuse=reuse)
        assert list(reuse.graph.captured.values())==made
    assert reuse.model is None and reuse.graph is None
    assert [numbers(o) for o in (a,b)]==[numbers(fit(Job(track, recipe, m), o, fast_cpu, reuse=Reuse(capture=True)))
                                         for o in (1,2)]


def test_a_kept_network_serves_every_learner(digits):
    "Each seed has a learner of its own around the memory of the first"
    with Reuse(capture=True) as reuse:
        learns = []
        for seed in (0,1):
            learns.append(fit_quietly(make_learner(Job(*digits), seed, fast_cpu, reuse=reuse)))
            assert reuse.graph.path=='captured' and learns[-1].opt.count==len(digits[2].train)//digits[1].bs
        a,b = learns
        assert a is not b and a.dls is not b.dls and a.model is b.model and a.opt is b.opt and data_of(
                a) is not data_of(b)
        assert b.validate()[1]>.5 and b.get_preds()[0].shape==(360,10)


def test_nothing_is_left_of_a_seed_that_diverged(small):
    "All memory that is kept is filled with NaN before the next seed"
    digits = small
    recipe = digits[1].but(bs=128, mixup=.4)
    with Reuse(capture=True) as reuse:
        fit(Job(digits[0], recipe, digits[2]), 1, fast_cpu, reuse=reuse)
        r, = reuse.graph.captured.values()
        pieces = [o for f in reuse.opt.flats.values() for o in (f.p, f.g, f.m, f.v, f.slow, f.rows)]
        for o in (*pieces, *reuse.model.buffers(), *reuse.mix[0].places.values(), r.x):
            o.fill_(float('nan')) if o.is_floating_point() else o.zero_()
        row = numbers(fit(Job(digits[0], recipe, digits[2]), 2, fast_cpu, reuse=reuse))
        assert list(reuse.graph.captured.values())==[r]
    assert row==numbers(fit(Job(digits[0], recipe, digits[2]), 2, fast_cpu, reuse=Reuse(capture=True)))


def test_seeds_at_once_end_as_they_would_have_ended(small):
    for change in ({}, dict(mixup=.4, erase=.3)):
        recipe = small[1].but(bs=128, **change)
        assert rows(small, recipe, [0,1,2], seeds_at_once=2)==rows(small, recipe, [0,1,2])


def test_seeds_at_once_stop_together(digits):
    "The one that fails is heard, the others end with their epoch, and no thread is left"
    import threading
    n,seen = threading.active_count(),[]
    def log(epoch, numbers, seed):
        seen.append((seed, epoch))
        if seed==1: raise ZeroDivisionError('on purpose')
    with pytest.raises(ZeroDivisionError):
        list(train_seeds(Job(make_track('digits', size=16, epochs=50), digits[1].but(bs=512), digits[2]), [0,1,2],
                         Machine(device='cpu', engine='fast', seeds_at_once=2), capture=True, log=log))
    assert threading.active_count()==n and max(e for _,e in seen)<50


class Watch(Callback):
    "All that a user may hear while steps are captured"
    def before_fit(self): self.heard,self.losses = set(),[]
    def before_epoch(self): self.heard.add('epoch')
    def before_batch(self): self.heard.add('batch')
    def after_batch(self):
        if self.training: self.losses.append((self.loss.item(), self.pred.shape, len(self.x)))
    def after_train(self): self.heard.add('train')

def test_callbacks_between_steps_keep_the_capture(digits, tmp_path):
    learn,watch = captured(digits),Watch()
    learn.path = tmp_path
    fit_quietly(learn, 2, [watch, SaveModelCallback(monitor='valid_loss', fname='x')])
    assert learn.graph.path=='captured' and watch.heard=={'epoch','batch',
                                                          'train'} and len(watch.losses)==2*(len(digits[2].train)//32)
    assert watch.losses[-1][0] < watch.losses[0][0]-.5 and watch.losses[0][1:]==((32,10), 32)
    assert not learn.graph.captured and all(p.grad is None
                                            for p in learn.model.parameters()), 'a captured step ends with its fit'

class Norms(Callback):
    def after_backward(self): pass

@pytest.mark.parametrize('make,why',
                         [(lambda: GradientClip(1.), 'GradientClip has before_step'),
                          (lambda: Norms(), 'Norms has after_backward'), (lambda: Ema(.9), 'Ema has after_step'),
                          (lambda: MixUp(.4), 'MixUp changes the loss'),
                                      (lambda: CutMix(1.), 'CutMix changes the loss'),
                                      (lambda: ParamScheduler(dict(wd=SchedCos(0,.1))), 'a schedule of wd')],
                                      ids=lambda o: o if isinstance(o, str) else '')
def test_who_looks_into_a_step_is_named(digits, make, why):
    learn = fit_quietly(captured(digits, digits[1].but(bs=128)), cbs=[make()])
    assert learn.graph.path==f'step by step: {why}' and not learn.graph.captured

def test_other_optimisers_are_named(digits):
    assert fit_quietly(captured(digits,
                                digits[1].but(bs=128, opt='adam'))).graph.path=='step by step: the optimiser is Optimizer, not FlatRanger' # noqa: E501


def test_factors_of_groups_are_in_the_plan(small, monkeypatch):
    "One plan for all steps, and not a new one at each"
    from woofbench.fast.graph import Graph
    plan,made = Graph._plan,[]
    def counted(self):
        made.append(self.at)
        return plan(self)
    monkeypatch.setattr(Graph, '_plan', counted)
    fit_quietly(captured(small, small[1].but(group='norm_bias')))
    assert len(made)==1

def test_another_fit_of_the_same_learner(small):
    "It goes on, with a capture of its own"
    a,b = captured(small),make_learner(Job(*small), machine=fast_cpu)
    losses = []
    for learn in (a,b):
        seen = Losses()
        for _ in range(2): fit_quietly(learn, 1, [seen])
        losses.append(torch.tensor(seen.all))
        assert learn.opt.count==2*(len(small[2].train)//32)
    torch.testing.assert_close(*losses, rtol=.1, atol=.05)


# Settings of a run

def test_the_default_engine_is_the_one_that_is_shown(cli, tmp_path):
    from woofbench.train.machine import check_engine
    assert check_engine(None, 'cpu')=='fast' and check_engine(None, 'cuda:0')=='fastai'
    rc,out,err = cli(f'run --size 16 --epochs 1 --seeds 1 --bs 512 --device cpu --out {tmp_path}')
    assert rc==0 and '\nengine fast\n' in out, err
    rec, = [json.loads(o.read_text()) for o in tmp_path.rglob('records/**/*.json')]
    assert rec['engine']=='fast'
    rc,out,_ = cli(f'run --size 16 --epochs 1 --seeds 1 --bs 512 --device cpu --engine fastai --out {tmp_path}')
    assert rc==0 and 'engine fastai, the reference' in out

@pytest.mark.parametrize('flags,hint',
                         [('--seeds-at-once 0', 'seeds_at_once'), ('--seeds-at-once 17', 'seeds_at_once'),
                          ('--compile --engine fastai', 'fast engine')])
def test_what_a_machine_cannot_do_is_said(flags, hint, refused, tmp_path):
    assert hint in refused(f'run --device cpu --out {tmp_path} {flags}')

def test_no_compiler_is_said(refused, tmp_path, monkeypatch):
    def none(*args, **kw): raise RuntimeError('no C++ compiler\nhere')
    monkeypatch.setattr(torch, 'compile', none)
    assert 'compile does not work here: RuntimeError: no C++ compiler' in refused(
            f'run --compile --device cpu --out {tmp_path}')

@pytest.mark.slow
def test_compiled(digits):
    "The same network: its first loss is the same, and it learns"
    seen = {}
    for o in (False, True):
        learn,seen[o] = make_learner(Job(*digits), machine=fast_cpu,
                                     reuse=Reuse(capture=True, keep=False, compile=o)),Losses()
        fit_quietly(learn, 1, [seen[o]])
        assert learn.graph.path=='captured'
    a,b = (torch.tensor(o.all) for o in seen.values())
    torch.testing.assert_close(a[:3], b[:3], rtol=1e-3, atol=1e-3)
    assert b[-5:].mean() < b[0]-.5
    assert not (learn.model.state_dict().keys() ^ make_learner(Job(*digits),
                                                               machine=Machine(device='cpu')).model.state_dict().keys())


# Crops ahead of time

def test_prefetched_crops_are_the_crops(digits):
    track,recipe,m = digits
    a,b = (data_of(make_learner(Job(track, recipe, m), 5, fast_cpu)) for _ in range(2))
    for _ in range(2):
        crops,y = a.epoch()
        made = b._prefetch()
        n = len(y)
        assert torch.equal(made[slice(0,n)], crops(slice(0,n))) and torch.equal(made.y, y)


# On a GPU

# noqa: E731
gpu = lambda f: pytest.mark.cuda(pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')(f))
on = torch.device('cuda')

@gpu
@pytest.mark.parametrize('change', [{}, dict(precision='bf16', channels_last=True)], ids=str)
def test_a_captured_step_is_the_step(digits, change):
    "With and without the capture: losses of two epochs agree, at first closely"
    track,recipe,m = digits
    losses = []
    for graph in (True, False):
        learn = make_learner(Job(track, recipe.but(**change), m), 1, Machine(device='cuda', engine='fast'))
        if not graph: learn.remove_cb(Graph)
        seen = Losses()
        fit_quietly(learn, 2, [seen])
        if graph: assert learn.graph.path=='captured'
        losses.append(torch.tensor(seen.all))
    torch.testing.assert_close(*(o[:5] for o in losses), rtol=2e-2, atol=1e-2)
    torch.testing.assert_close(*(o[-20:].mean() for o in losses), rtol=.1, atol=.05)

@gpu
@pytest.mark.parametrize('change', changes, ids=str)
def test_a_seed_is_the_same_alone_after_others_and_beside_them_on_a_gpu(digits, change):
    recipe = digits[1].but(bs=128, **change)
    said = []
    row = rows(digits, recipe, [3,4,5], on, capture=None, say=said.append)
    assert said==['engine fast: captured']
    assert rows(digits, recipe, [4], on, capture=None)[4]==row[4]
    assert rows(digits, recipe, [3,4,5], on, capture=None, seeds_at_once=3)==row

@gpu
def test_growing_images_on_a_gpu(digits):
    track,recipe,m = make_track('digits', size=64, epochs=2), digits[1].but(bs=128, progressive=.5, precision='bf16',
            channels_last=True), digits[2]
    job,here = Job(track, recipe, m),Machine(device='cuda', engine='fast')
    with Reuse() as reuse:
        a,b = (numbers(fit(job, o, here, reuse=reuse)) for o in (1,2))
        assert len(reuse.graph.captured)==2
    with Reuse() as reuse: assert numbers(fit(job, 2, here, reuse=reuse))==b!=a

@gpu
def test_memory_is_given_back(digits):
    import gc
    def used():
        gc.collect()
        torch._C._cuda_clearCublasWorkspaces() # one for each stream that a capture had; none is left here
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()
    load_images(digits[2], digits[0], on)
    rows(digits, digits[1], [0], on, capture=None) # libraries take their share
    before = used()
    rows(digits, digits[1], [0,1], on, capture=None)
    assert used()<=before+(32<<20)

@gpu
def test_no_waiting_within_an_epoch(digits):
    "PyTorch is told to raise an error where the program would wait for the device"
    class Strict(Callback):
        order = 100
        def after_batch(self):
            if self.iter==3: torch.cuda.set_sync_debug_mode('error')
        def before_batch(self):
            if self.iter==self.n_iter-2: torch.cuda.set_sync_debug_mode('default')
        def after_cancel_fit(self): torch.cuda.set_sync_debug_mode('default')
    learn = make_learner(Job(digits[0], digits[1].but(mixup=.4, precision='bf16', channels_last=True), digits[2]),
                         machine=Machine(device='cuda', engine='fast'))
    try:
        with learn.removed_cbs([learn.recorder]): fit_quietly(learn, 1, [Strict()])
    finally: torch.cuda.set_sync_debug_mode('default')

@gpu
def test_images_in_the_computers_memory_give_the_same_crops(digits, monkeypatch):
    track,recipe,m = digits
    there = data_of(make_learner(Job(track, recipe, m), 5, Machine(device='cuda', engine='fast')))
    monkeypatch.setattr(fast_module, '_room', lambda store, device: 'cpu: for this test')
    fast_module._last.clear()
    here = data_of(make_learner(Job(track, recipe, m), 5, Machine(device='cuda', engine='fast')))
    assert here.data.train.pixels.device.type=='cpu' and there.data.train.pixels.is_cuda
    for _ in range(2):
        (a,y),(b,z) = there.epoch(),here.epoch()
        part = slice(0, len(y))
        assert torch.equal(y, z) and (a(part).int()-b(part).int()).abs().max()<=1
    fast_module._last.clear()

@gpu
def test_validation_does_not_depend_on_its_batches(digits):
    learn = fit_quietly(make_learner(Job(*digits), machine=Machine(device='cuda', engine='fast')))
    size = valid_bs(360, digits[1].bs, 32, on)
    assert size==360
    large = learn.validate()
    data_of(learn).before_validate = lambda: setattr(learn, 'dl',
                                                     data_of(learn)._batches(learn.dls.valid,
                                                             data_of(learn).data.valid.__getitem__,
                                                             data_of(learn).data.valid_y))
    assert list(large)==pytest.approx(list(learn.validate()), abs=1e-4)


def test_no_cache_keeps_no_images_on_disk(cli, tiny, tmp_path, monkeypatch):
    from woofbench.data import batches as fast
    line = (f'run --dataset imagewoof --data {tiny} --size 32 --epochs 1 --seeds 1 --engine fast --device '
            'cpu --arch xresnet10_tiny --bs 8')
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'cache'))
    correct = []
    for flag,files in (('--no-cache', 0), ('', 2)):
        fast._last.clear() # what an earlier run decoded
        assert cli(f'{line} {flag} --out {tmp_path}/out{files}')[0]==0
        assert len(list((tmp_path/'cache').glob('store-*.rgb')))==files
        correct += [json.loads(o.read_text())['runs'][0]['preds']
                    for o in (tmp_path/f'out{files}').rglob('records/**/*.json')]
    assert len(correct)==2 and len(set(correct))==1 # a run setting: the row is the same
    assert '--no-cache' in cli('run --help')[1]
