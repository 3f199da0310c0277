"The fast engine against the reference: the same images, the same steps, the same learner"
import json
from functools import partial
import pytest
import torch
from conftest import root  # noqa: F401  sets the caches first
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from woofbench.data import find, verify
from woofbench.fast import FastData, engines
from woofbench.graph import Graph
from woofbench.recipe import recipes
from woofbench.runner import learner
from woofbench.track import make_track
from woofbench.train import fit, make_learner


@pytest.fixture(scope='module')
def digits():
    track = make_track('digits', epochs=1)
    return track, recipes('digits')(), verify(find(track), 'digits')


def data_of(learn): return next(o for o in learn.cbs if isinstance(o, FastData))


def batches(learn, train):
    "One epoch of batches as the learner would see them"
    learn.dl = learn.dls.train if train else learn.dls.valid
    data_of(learn)('before_train' if train else 'before_validate')
    return list(learn.dl)


def test_validation_images_are_the_references(digits):
    track,recipe,m = digits
    fast,ref = (make_learner(track, recipe, m, workers=0, device='cpu', engine=o) for o in engines[::-1])
    for (a,y),(b,z) in zip(batches(fast, False), ref.dls.valid): assert torch.equal(a.as_subclass(torch.Tensor), b.as_subclass(torch.Tensor)) and y.tolist()==z.tolist()


@pytest.mark.parametrize('change', [{}, dict(normalize=False), dict(channels_last=True), dict(erase=.3)], ids=str)
def test_training_batches_are_what_the_loaders_own_transforms_make(digits, change):
    "Where the transforms are the usual ones, crops become floats in threads, to the same bits; where there are more, the loader does all of it"
    from fastai.vision.core import TensorImage
    from woofbench.fast import plain
    track,recipe,m = digits
    recipe = recipe.but(**change)
    learn = make_learner(track, recipe, m, engine='fast', device='cpu')
    dl,data = learn.dls.train,data_of(learn)
    assert (plain(dl.after_batch) is None)==('erase' in change)
    state = data.generator.get_state()
    got,y = next(iter(data._batches(dl, *data.epoch(plain(dl.after_batch)))))
    data.generator.set_state(state)
    images,ys = data.epoch()
    ref, = dl.after_batch((TensorImage(images(slice(0, recipe.bs)).permute(0,3,1,2)),))
    same = got.as_subclass(torch.Tensor)==ref.as_subclass(torch.Tensor)
    assert same.all() if 'erase' not in change else .5 < same.float().mean() # random erasing draws anew
    assert y.tolist()==ys[:recipe.bs].tolist() and got.is_contiguous(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)


def test_epochs_have_every_image_once_and_differ(digits):
    track,recipe,m = digits
    learn = make_learner(track, recipe, m, engine='fast', device='cpu')
    first,second = (batches(learn, True) for _ in range(2))
    assert len(first)==len(m.train)//recipe.bs and all(len(x)==recipe.bs for x,_ in first)
    assert not torch.equal(first[0][0], second[0][0])
    counts = torch.bincount(torch.cat([y for _,y in first]).as_subclass(torch.Tensor), minlength=10)
    assert (torch.tensor([sum(m.label(o)==c for o in m.train) for c in m.classes])-counts).clamp(min=0).sum()==len(m.train)%recipe.bs


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
    "Twenty steps in double precision, where rounding has no time to grow; and at the end weights that have moved far, and alike"
    track,recipe,m = digits
    made = {o: make_learner(track, recipe, m, seed=3, workers=0, device='cpu', engine=o) for o in engines}
    start = torch.nn.utils.parameters_to_vector(made['fast'].model.parameters()).detach().clone()
    assert torch.equal(start, torch.nn.utils.parameters_to_vector(made['fastai'].model.parameters()))
    twenty = [(x.double(), y) for x,y in batches(made['fast'], True)[:20]]
    losses,ends = {},{}
    for name,learn in made.items():
        seen = Losses()
        learn.model.double()
        learn.remove_cb(FastData)
        learn.dls = DataLoaders(Same(twenty, learn.dls.train), Same(twenty[:1], learn.dls.valid), device='cpu')
        with learn.no_bar(), learn.no_logging(), learn.removed_cbs([learn.recorder]), learn.added_cbs([seen]): learn.fit_flat_cos(1, recipe.lr)
        losses[name],ends[name] = torch.tensor(seen.all),torch.nn.utils.parameters_to_vector(learn.model.parameters()).detach()
    assert len(losses['fast'])==20 and losses['fast'][-1] < losses['fast'][0]-.1
    torch.testing.assert_close(losses['fast'], losses['fastai'], rtol=1e-6, atol=1e-6)
    assert (ends['fast']-ends['fastai']).norm() < 1e-5*(ends['fastai']-start).norm()


def test_a_seed_repeats(digits):
    track,recipe,m = digits
    go = partial(fit, track, recipe, m, device='cpu', engine='fast')
    a,b,c = go(seed=0),go(seed=0),go(seed=1)
    assert (a.preds,a.init_sha256)==(b.preds,b.init_sha256) and a.init_sha256!=c.init_sha256
    assert a.init_sha256==fit(track, recipe, m, seed=0, workers=0, device='cpu').init_sha256


@pytest.mark.parametrize('change', [dict(mixup=.2), dict(cutmix=1.), dict(erase=.3), dict(ema=.9), dict(centralize=True), dict(gamma_l2=1e-4), dict(opt='sgd'), dict(beta=50.),
                                    dict(precision='bf16', channels_last=True), dict(sched='one_cycle'), dict(stem='whitening'), dict(sa='simple_sa', pool='max_blur', block='reduce_first')], ids=str)
def test_every_option_works(digits, change):
    track,recipe,m = digits
    run = fit(track, recipe.but(bs=128, **change), m, device='cpu', engine='fast')
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
    for o in engines: assert cli(f'run --engine {o} --epochs 1 --seeds 2 --workers 0 --out {tmp_path}')[0]==0
    recs = [json.loads(o.read_text()) for o in tmp_path.rglob('records/**/*.json')]
    assert {o['engine'] for o in recs}==set(engines) and len({o['config_id'] for o in recs})==1 and len({o['env']['context'] for o in recs})==2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_a_recorded_step_is_the_step(digits):
    "With and without the recording: losses of an epoch in fp32 agree"
    track,recipe,m = digits
    losses = []
    for graph in (True, False):
        learn = make_learner(track, recipe, m, seed=1, device='cuda', engine='fast')
        if not graph: learn.remove_cb(Graph)
        seen = Losses()
        with learn.no_bar(), learn.no_logging(), learn.added_cbs([seen]): learn.fit_flat_cos(2, recipe.lr)
        if graph: assert learn.graph.path=='recorded'
        losses.append(torch.tensor(seen.all))
    torch.testing.assert_close(*losses, rtol=2e-2, atol=1e-2)


def test_no_cache_keeps_no_images_on_disk(cli, tiny, tmp_path, monkeypatch):
    from woofbench import fast
    line = f'run --dataset imagewoof --data {tiny} --size 32 --epochs 1 --seeds 1 --engine fast --device cpu --arch xresnet10_tiny --bs 8'
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'cache'))
    correct = []
    for flag,files in (('--no-cache', 0), ('', 2)):
        fast._last.clear() # what an earlier run decoded
        assert cli(f'{line} {flag} --out {tmp_path}/out{files}')[0]==0
        assert len(list((tmp_path/'cache').glob('store-*.rgb')))==files
        correct += [json.loads(o.read_text())['runs'][0]['preds'] for o in (tmp_path/f'out{files}').rglob('records/**/*.json')]
    assert len(correct)==2 and len(set(correct))==1 # a run setting: the row is the same
    assert '--no-cache' in cli('run --help')[1]
