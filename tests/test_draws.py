"The number of loader processes changes nothing that the reference engine gives"
import random
from dataclasses import replace
import numpy as np
import pytest
import torch
from conftest import tiny_dataset
from fastai.callback.core import Callback
from fastai.data.core import TfmdDL
from fastai.torch_core import set_seed
from fastai.vision.core import PILImage
from fasttransform import Transform
from PIL import Image
from woofbench.board.record.provenance import context_id, training_sha
from woofbench.commands.prepare import plan
from woofbench.commands.publish import row_kind
from woofbench.commands.run import run
from woofbench.data.augment import augs
from woofbench.data.draws import SeededDL, kept_states, seed_states
from woofbench.board.record.record import Purpose
from woofbench.train.learner import fit, make_learner
from woofbench.train.machine import Machine

small = dict(arch='xresnet10_tiny', widths=(8,16,32,64))

def states(): return random.random(), np.random.rand(), float(torch.rand(1))

def draws(x): return torch.tensor([float(x), *states()], dtype=torch.float64)


# The loader

def passes(workers, kind=SeededDL, n=11, change=lambda dl: None, **kw):
    "Two passes over numbers whose transform draws from all three states, and what the program draws after each"
    set_seed(3)
    dl = kind(list(range(n)), bs=2, num_workers=workers, after_item=draws, **kw)
    change(dl)
    return [(torch.cat(list(dl)).tolist(), states()) for _ in range(2)]

@pytest.mark.parametrize('kw', (dict(shuffle=True, drop_last=True), {}), ids=str)
def test_items_and_the_program_draw_the_same_for_any_number_of_processes(kw):
    first,*rest = (passes(k, **kw) for k in (0, 1, 2, 4))
    assert all(o==first for o in rest)
    (a,after),(b,later) = first
    both = np.array(sorted(a)),np.array(sorted(b))
    assert len({*np.concatenate(both)[:,1:].flatten()})==3*len(a+b) and after!=later, 'each draw is another one'

def test_fastais_own_loader_does_not():
    "So the tests here can fail"
    a,b = (passes(k, TfmdDL) for k in (0, 2))
    assert a[0][0]!=b[0][0] and a[0][1]!=b[0][1]

def test_an_item_draws_the_same_in_any_order():
    "By the loader's seed, the pass and the item; not by its place"
    a = passes(0)
    b = passes(0, change=lambda dl: setattr(dl, 'get_idxs', lambda: list(range(11))[::-1]))
    assert [sorted(o) for o,_ in a]==[sorted(o) for o,_ in b] and a[0][0]!=b[0][0]

def test_an_item_that_occurs_twice_draws_twice():
    def twice(dl): dl.get_idxs = lambda: [0,1,1,1,0,2,1,1,0]
    first,*rest = (passes(k, change=twice) for k in (0, 2, 3))
    assert all(o==first for o in rest)
    assert len({*np.array(first[0][0])[:,1:].flatten()})==27

def test_a_look_at_the_loader_during_a_pass_changes_no_item():
    def seen(workers, look):
        set_seed(0)
        dl,res = SeededDL(list(range(8)), bs=2, num_workers=workers, after_item=draws),[]
        for b in dl:
            res += b.tolist()
            if look: dl.one_batch()
        return res
    assert seen(0, True)==seen(2, True)==seen(0, False)

def test_states_are_put_back_after_an_error():
    set_seed(0)
    def now(): return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    was = now()
    with pytest.raises(ZeroDivisionError), kept_states():
        seed_states('x')
        assert states()!=states()
        raise ZeroDivisionError
    assert now()==was


# Training

class Dots(Transform):
    "A transform of items that draws from all three states"
    def encodes(self, x:PILImage):
        a = np.array(x)
        a[random.randrange(len(a)),np.random.randint(len(a[0]))] = int(torch.randint(256, (1,)))
        return PILImage.create(Image.fromarray(a))

class BringsDots(Callback):
    def before_fit(self): self.dls.train.after_item.add(Dots())

def per_image(r): return lambda x, at: x + .1*at.rand(1)[:,:,None,None].to(x)
def per_batch(r): return lambda x, at: x*at.rand(1)[0,0].to(x) + .1*torch.rand(1)

def numbers(r): return r.correct, r.preds, r.init_sha256, [(o['train_loss'], o['valid_loss']) for o in r.curve]

def trained(job, workers, engine='fastai'):
    torch.manual_seed(workers) # the state before a run does not count
    return numbers(fit(job, 1, Machine('cpu', workers, engine)))

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tiny_dataset(tmp_path_factory.mktemp('draws')/'ds', n_train=14, n_val=6)

def job_of(folder, **kw):
    p = plan('imagenette', data=folder, size=64, bs=8, **small | kw)
    return replace(p, track=replace(p.track, epochs=2), cbs=(BringsDots,))

everything = dict(erase=.3, progressive=.5)
mixes = dict(mixup=.4),dict(cutmix=.5)

@pytest.mark.parametrize('workers', (2, pytest.param(1, marks=pytest.mark.slow)))
@pytest.mark.parametrize('aug,mixed', (('per_image', mixes[0]), ('per_batch', mixes[1]), ('mix', {})), ids=str)
def test_a_folder_with_all_augmentations_gives_the_same(folder, registries_stay, aug, mixed, workers):
    "Crop, flip, erasing, mixup or cutmix, smaller images, and augmentations of yours"
    augs.register('per_image')(per_image)
    augs.register('per_batch')(per_batch)
    job = job_of(folder, aug=aug, **everything, **mixed)
    assert trained(job, workers)==trained(job, 0)

@pytest.mark.slow
@pytest.mark.parametrize('kw', (dict(erase=.2, mixup=.4), {}), ids=str)
def test_digits_give_the_same(kw):
    job = plan('digits', size=16, epochs=2, bs=256, **small | kw)
    first = trained(job, 0)
    for workers in (1, 2): assert trained(job, workers)==first

@pytest.mark.slow
def test_so_do_four_processes_on_digits_as_they_are():
    job = plan('digits', epochs=1)
    assert trained(job, 0)==trained(job, 2)==trained(job, 4)

def test_only_the_reference_engine_has_these_loaders(folder):
    "The fast engine's loaders, and so its random states, are as they were"
    job = job_of(folder)
    kinds = {e:type(make_learner(job, 0, Machine('cpu', 0, e)).dls.train) for e in ('fast','fastai')}
    assert kinds==dict(fast=TfmdDL, fastai=SeededDL)


# Reuse seeds

def test_seeds_go_on_with_another_number_of_processes(folder, tmp_path):
    said,how = [],dict(data=folder, size=32, bs=8, epochs=1, engine='fastai', device='cpu', out=tmp_path, **small)
    one = run('imagenette', seeds=1, workers=0, say=None, **how)
    again = run('imagenette', seeds=1, workers=2, say=said.append, **how)
    assert again.record==one.record and any('this row is there already' in o for o in said)
    other = run('imagenette', seeds=1, workers=2, again=True, say=None, **how)
    assert other.record['env']['workers']==2 and other.runs[0]['preds']==one.runs[0]['preds']
    assert [o['valid_loss'] for o in other.runs[0]['curve']]==[o['valid_loss'] for o in one.runs[0]['curve']]

def test_seeds_of_older_code_are_not_taken(folder):
    "Their hash had the number of processes, and another hash of the code"
    job = job_of(folder)
    a,b = (row_kind(job, Machine('cpu', k, 'fastai'), Purpose())[0] for k in (0, 3))
    assert a.made.env['workers']==0 and b.made.env['workers']==3 and a.context==b.context
    env = {k:v for k,v in a.made.env.items() if k!='context'}
    older = context_id(training_sha(), env, job.manifest.sha256, {}, 'fastai')
    assert older!=a.context
