"Answers that were wrong without a word: kinds of parts, networks and their costs, seeds beside each other, devices"
import importlib
from dataclasses import replace
from pathlib import Path
import pytest
import torch
from torch import nn
from woofbench import Param, acts, archs, losses, opts
from woofbench.board.record.own_parts import sources
from woofbench.board.record.seeds import check_seeds, seeds_kind
from woofbench.board.stats.tests import compare
from woofbench.commands.estimate import Forecast
from woofbench.commands.listing import card, kind_of, kinds
from woofbench.commands.request import trick_files
from woofbench.commands.prepare import plan
from woofbench.commands.sweep_plan import read_plan
from woofbench.commands.to_notebook import trick_notebook
from woofbench.commands.workers import gpus, usual_workers
from woofbench.data import store
from woofbench.data.manifest import verify
from woofbench.data.loaders import Batching, make_loaders, with_noise
from woofbench.data.augment import augs
from woofbench.data.track import Track, make_track
from woofbench.models.costs import each_change
from woofbench.models.spec import XResNetSpec, arch, change
from woofbench.registry import BadInput
from woofbench.train import libraries, multi_seed
from woofbench.train.imports import import_parts
from woofbench.train.job import Job
from woofbench.train.reuse import Reuse
from woofbench.train.machine import Machine, device_name, peak_mb
from woofbench.train.recipe import Recipe, from_dict, to_dict

tiny = dict(arch='xresnet10_tiny', widths=(8,16,32,64))


# Kinds of parts

def test_a_registry_is_called_by_its_plural():
    "A record finds parts in your file by the name of the registry"
    for k,reg in kinds().items():
        homes = [importlib.import_module(o) for o in {'woofbench', *reg.homes.values()} if o.startswith('woofbench')]
        assert any(getattr(o, reg.plural, None) is reg for o in homes), k
        assert kind_of(reg.plural)==kind_of(k)==k

VARY = """
from fastai.callback.schedule import ParamScheduler, SchedCos
from woofbench.train.schedules import varies

@varies.register('slower')
def slower(r):
    "Momentum falls"
    return [ParamScheduler(dict(mom=SchedCos(r.mom, .8)))]
"""

def test_a_schedule_of_other_values_can_be_told_from_its_file(tmp_path, registries_stay):
    "So the row is one of unmerged code, and a merged trick gives it a rank"
    path = tmp_path/'slower_vary.py'
    path.write_text(VARY)
    import_parts(path)
    shas,files = sources(Recipe().but(vary='slower'))
    assert list(shas)==['vary slower'] and [o.name for o in files]==['slower_vary']
    (tmp_path/'nbs/tricks').mkdir(parents=True)
    assert '| slot | `vary` |' in trick_notebook(path, tmp_path/'nbs/tricks').read_text()

def test_a_part_that_is_registered_again_has_its_new_parameters(registries_stay):
    def mine(**params):
        @acts.register('again_act', params=params or None)
        def again_act(**kw): return nn.LeakyReLU(kw.get('slope', .3))
    mine(slope=Param(.1, 'Below zero', 0, 1))
    assert acts('again_act')().negative_slope==.1
    mine()
    assert acts('again_act')().negative_slope==.3 and acts.params_of('again_act')=={}
    mine(slope=Param(.1, 'Below zero', 0, 1))
    acts['again_act'] = lambda: nn.LeakyReLU(.2)
    assert acts('again_act')().negative_slope==.2

def test_a_part_with_parameters_says_what_it_is():
    assert 'partial' not in card(kinds()['block'], 'drop_path') and 'TrivialAugment' in card(augs, 'trivial')


# Networks

@pytest.fixture
def three(registries_stay):
    "A shape of three stages"
    arch('three_stages', 'three stages', depths=(1,1,1), widths=(16,32,64), expansion=1, stem_szs=(8,8,16))

def test_values_of_stages_are_checked_for_a_new_shape(three):
    with pytest.raises(BadInput, match='act has 4 values for 3 stages'):
        Recipe().but(act=('mish','mish','relu','relu')).but(arch='three_stages')
    r = Recipe().but(act=('mish','mish','mish','relu'))
    assert from_dict(to_dict(r))==r
    one,three = XResNetSpec(act='mish'),XResNetSpec(act=('mish','mish','mish'))
    assert change(three, 'three_stages')==change(one, 'three_stages')

def test_a_shape_has_a_width_for_each_depth():
    with pytest.raises(BadInput, match='2 depths and 4 widths'): arch('odd_shape', 'odd', depths=(1,1))
    assert 'odd_shape' not in archs

@pytest.mark.parametrize('kw,labels', [
    (dict(block='drop_path', block_of='reduce_first'), ['block=drop_path']),
    (dict(act='mish', dropout=.5), ['act=mish', 'dropout=0.5', 'all of them']),
    (dict(depths=(2,2,2,3), act='mish'), ['act=mish']),
    (dict(block='drop_path'), ['block=drop_path'])], ids=str)
def test_costs_are_those_of_the_network_that_you_ask_for(kw, labels):
    spec = change(XResNetSpec(), 'xresnet18', **kw)
    found = each_change(spec)
    assert list(found)[1:]==labels and list(found.values())[-1]==spec


# Seeds beside each other

def drawing(**kw):
    "What `_check_draws` says of a recipe"
    job = Job(make_track('digits', size=16, epochs=1), Recipe().but(**kw), None)
    job = replace(job, manifest=type('M', (), dict(classes=range(10)))())
    try: multi_seed._check_draws(job)
    except BadInput as e: return str(e)
    return ''

def test_a_network_that_draws_from_the_generator_of_the_process_is_found(registries_stay):
    for name,more in (('drops', [nn.Dropout(.5)]), ('drops_none', [])):
        archs.register(name)(lambda n_out, size, more=more: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *more, nn.Linear(4, n_out)))
    state = torch.get_rng_state()
    assert 'this network' in drawing(arch='drops') and not drawing(arch='drops_none')
    assert torch.equal(state, torch.get_rng_state())

def test_an_augmentation_that_draws_by_itself_is_found(registries_stay):
    augs.register('drawing')(lambda r: lambda x, at: x+torch.rand(()))
    assert 'aug drawing' in drawing(aug='drawing', **tiny)

@pytest.mark.parametrize('aug', [*augs])
def test_augmentations_of_the_package_draw_for_each_image(aug):
    assert not drawing(aug=aug, **tiny | (dict(flip=0.) if aug=='alternate_flip' else {}))

def test_seeds_at_once_with_an_augmentation_have_the_numbers_of_seeds_alone():
    job = plan('digits', size=16, epochs=1, bs=512, aug='mix', **tiny)
    def ended(k): return {r.seed:r.preds for r in multi_seed.train_seeds(job, [0,1], Machine('cpu', 0, engine='fast',
                                                                         seeds_at_once=k), capture=True)}
    assert ended(2)==ended(1)

def test_a_loss_begins_anew_with_each_seed(registries_stay):
    class Counting(nn.Module):
        "Has a state, which a captured step uses where it is"
        y_int,reduction = True,'mean'
        def __init__(self):
            super().__init__()
            self.register_buffer('seen', torch.zeros(()))
    losses.register('counting')(lambda r: Counting())
    reuse,recipe = Reuse(capture=True),Recipe().but(loss='counting', **tiny)
    track = make_track('digits', size=16, epochs=1)
    def parts(): return reuse.parts(nn.Linear(2, 2), recipe, track, None, 0, torch.device('cpu'))['loss_func']
    first = parts()
    first.seen.fill_(99)
    reuse.graph.path = 'captured'
    assert parts() is first and first.seen==0

@pytest.mark.parametrize('loss', [*losses])
def test_losses_of_the_package_are_modules(loss): assert isinstance(losses(loss)(Recipe()), nn.Module)

def test_every_optimiser_of_torch_takes_weight_decay():
    from fastai.torch_core import params
    model = nn.Linear(3, 3)
    for o in libraries.torch_opts():
        opt = libraries._find_torch(o)(Recipe())(params(model), lr=1e-3)
        opt.set_hypers(wd=.1, lr=.1)
    assert 'Rprop' not in libraries.torch_opts() and 'AdamW' in libraries.torch_opts()


# Devices, times, numbers

def test_a_gpu_is_asked_by_its_number(monkeypatch):
    asked = []
    for o in ('max_memory_allocated','get_device_name'):
        monkeypatch.setattr(torch.cuda, o, lambda device=None, o=o: (asked.append((o, str(device))), 1<<20)[1])
    dev = torch.device('cuda:1')
    peak_mb(dev)
    device_name('cuda:1')
    assert asked==[('max_memory_allocated','cuda:1'), ('get_device_name','cuda:1')]

@pytest.mark.parametrize('said,n', [('-1', 0), ('', 0), ('0,1', 2), ('0,-1,1', 1), ('GPU-ab, GPU-cd', 2)])
def test_gpus_that_are_switched_off_do_not_count(said, n, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', said)
    assert len(gpus())==n and (n or usual_workers(len(gpus()))>=1)

def test_memory_that_is_not_known_is_not_a_small_number():
    job = Job(Track('digits', 16, 1, '32'), Recipe().but(**tiny), None, dict(params=1, macs=1))
    def memory(*parts):
        f = Forecast(job, Machine('cpu', 0), [0], Path('.'), 1., '', parts, False, done=[], row=None)
        return f.facts()['memory_bytes']
    assert memory(100, None, 0) is None and memory(100, 20, 3)==123

def test_files_of_parts_count_for_a_plan_that_was_read():
    what = read_plan(dict(tracks=[dict(dataset='digits')]))
    assert read_plan(what, ('x.py',)).imports==(str(Path('x.py').resolve()),)

def test_a_prior_and_a_floor_are_not_both():
    with pytest.raises(ValueError, match='not both'): compare([.7,.71], [.6,.62], prior=(.01, 20), floor=(.3, .3))

def test_more_exploration_seeds_are_not_chosen():
    assert seeds_kind(list(range(10)), 'c860418f9fadbb1e')=='explore'
    check_seeds('explore', list(range(8)), 'c860418f9fadbb1e')
    assert seeds_kind([0,1,3], 'c860418f9fadbb1e')=='chosen'

def test_a_notebook_outside_a_clone_is_named(tmp_path):
    for o in ('/foo.ipynb', tmp_path/'foo.ipynb', 'nbs/tricks/foo.py'):
        with pytest.raises(BadInput, match='in your clone'): trick_files(o)

def test_label_noise_uses_the_images_that_are_there(tiny_noise):
    "Other labels are other data, and the same pixels"
    m,noisy = tiny_noise
    assert m.sha256!=noisy.sha256 and all(store._key(m, o)==store._key(noisy, o) for o in ('train','val'))

@pytest.fixture
def tiny_noise(tiny):
    m = verify(tiny, 'imagewoof')
    rows = [f'{o},{"b" if i%4==0 else m.label(o)}' for i,o in enumerate(m.train)]
    (tiny/'noisy_imagewoof.csv').write_text('\n'.join(['path,noisy_labels_25', *rows]))
    return m, with_noise(m, Track('imagewoof', 32, 5, '320', noise=25))


def test_changed_labels_that_are_not_those_of_the_record_are_refused(tiny_noise):
    from woofbench.data.batches import load_images
    m,noisy = tiny_noise
    track,path = Track('imagewoof', 32, 5, '320', noise=25),m.root/'noisy_imagewoof.csv'
    assert len(make_loaders(noisy, track, Batching(bs=4)).train_ds)==24
    path.write_text(path.read_text().replace(f'{m.train[1]},a', f'{m.train[1]},b'))
    for f in (lambda: make_loaders(noisy, track, Batching(bs=4)),
              lambda: load_images(noisy, track, torch.device('cpu'), cache=False)):
        with pytest.raises(BadInput, match='noisy_imagewoof.csv has changed since it was verified'): f()


# Fields that a part makes no use of

def test_an_optimiser_of_yours_says_what_it_makes_no_use_of(registries_stay):
    "Else `--beta .5` would change nothing but the hash"
    opts.register('plain_opt', unused=('beta','eps'))(lambda r: None)
    r = Recipe().but(opt='plain_opt')
    with pytest.raises(BadInput, match='opt plain_opt makes no use of beta'): r.but(beta=.5)
    assert r.but(opt='ranger', beta=.5).but(opt='plain_opt')==r
    opts.register('plain_opt')(lambda r: None) # the same cell once more, without it
    assert r.but(beta=.5).beta==.5
    opts.register('odd_opt', unused=('betta',))(lambda r: None)
    with pytest.raises(BadInput, match="names 'betta' as unused; did you mean beta"): Recipe().but(opt='odd_opt')
