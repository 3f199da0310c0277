"What users bring: parameters of parts, augmentations, whole networks, libraries' optimisers"
import json
from dataclasses import replace
import pytest, torch
from fastai.callback.core import Callback
from torch import nn
from conftest import mostly_nightly, root
from woofbench.train.job import Job
from woofbench.train.machine import Machine
from woofbench.board.record.own_parts import outside
from woofbench.commands.prepare import plan
from woofbench.commands.run import run
from woofbench.data.augment import DrawKey, augs
from woofbench.data.track import make_track
from woofbench.models.parts import acts
from woofbench.models.spec import ModelSpec, archs
from woofbench.models.xresnet import build
from woofbench.registry import Param, BadInput
from woofbench.train.learner import fit, make_learner
from woofbench.train.optim import opts
from woofbench.train.recipe import Recipe, config_id, from_dict, recipes, to_dict
from warm import python

track = make_track('digits', epochs=1)


@pytest.fixture
def parts():
    "Parts of one's own, taken away afterwards"
    @acts.register('bent', params=dict(slope=Param(.1, 'Slope below zero', 0, 1)))
    def bent(*, slope): return nn.LeakyReLU(slope)
    @augs.register('dim', params=dict(by=Param(.5, 'What pixels are multiplied by', 0, 1)))
    def dim(r, *, by): return lambda x, at: x*by
    @archs.register('one_layer', params=dict(width=Param(8, 'Channels', 1, 512)))
    def one_layer(n_out, size, *, width):
        return nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                             nn.Flatten(),
                             nn.Linear(width, n_out))
    yield
    for reg,name in ((acts, 'bent'), (augs, 'dim'), (archs, 'one_layer')): del reg[name]


# Parameters are fields of a recipe where the part is used

def test_parameters_are_fields_where_their_part_is_used(parts):
    r = recipes('digits')().but(aug='dim', act='bent', act_slope=.2)
    assert dict(r.params)==dict(aug_by=.5) and dict(r.model.params)==dict(act_slope=.2)
    assert r.but(aug_by=.25).but(lr=1e-3).params==(('aug_by', .25),)
    assert r.but(aug='none').params==() and r.but(act='mish').model.params==()
    with pytest.raises(BadInput, match='belongs to aug dim'): Recipe().but(aug_by=.1)
    with pytest.raises(BadInput, match='from 0 to 1'): r.but(aug_by=3.)
    acts_in = [o for o in build(r.model).modules() if isinstance(o, nn.LeakyReLU)]
    assert acts_in and {o.negative_slope for o in acts_in}=={.2}

def test_defaults_are_written_and_hashed(parts):
    "So a default may change later, and no id changes"
    r = recipes('digits')().but(aug='dim', act='bent')
    before,text = config_id(track, r),json.dumps(to_dict(r))
    assert to_dict(r)['params']==dict(aug_by=.5) and to_dict(r)['model']['params']==dict(act_slope=.1)
    augs.params['dim'] = dict(by=Param(.9, 'What pixels are multiplied by', 0, 1))
    assert config_id(track, from_dict(json.loads(text)))==before
    assert config_id(track, r.but(aug_by=.9))!=before

def test_a_process_without_the_part_recomputes_the_id(parts):
    r = recipes('digits')().but(aug='dim', act='bent', act_slope=.2)
    for o in (r, Recipe().but(arch='one_layer', arch_width=16)):
        code = ('import json,sys; from woofbench.train.recipe import *; from woofbench.data.track import make_track; '
                'r = from_dict(json.load(sys.stdin)); print(config_id(make_track("digits", epochs=1), r), '
                'json.dumps(to_dict(r), sort_keys=True))')
        p = python(code, input=json.dumps(to_dict(o)), cwd=root)
        assert p.returncode==0, p.stderr
        got,text = p.stdout.split(' ', 1)
        assert got==config_id(track, o) and json.loads(text)==json.loads(json.dumps(to_dict(o)))

@pytest.mark.parametrize('params',
                         [{}, {'aug_by':[1]}, {'By':1}, {'aug_by':float('nan')}, {'aug_by':'a b'}, 'x', {'x'*99:1}])
def test_odd_parameters_of_a_record_are_refused(params):
    d = to_dict(Recipe().but(grad='clip'))
    with pytest.raises(BadInput): from_dict(d | dict(params=params))

def test_names_of_the_package_stay(parts):
    for reg,name in ((augs,'trivial'), (archs,'xresnet50'), (opts,'ranger')):
        with pytest.raises(BadInput, match='taken'): reg.register(name)(lambda *a, **k: None)

def test_what_is_not_ours_is_in_the_context(parts):
    r = Recipe().but(aug='dim', arch='one_layer')
    assert {*outside(r)}=={'arch one_layer', 'aug dim'}
    assert outside(Recipe().but(aug='trivial', opt='timm:lion', grad='clip', loss='bce', average='tail',
                                group='norm_bias'))=={}


# Whole networks

def test_a_network_of_ones_own_trains(parts, tmp_path):
    row = run('digits', size=16, epochs=1, seeds=1, arch='one_layer', arch_width=16, out=tmp_path, say=None)
    assert row.record['recipe']['model']==dict(kind='model', name='one_layer', params=dict(arch_width=16))
    assert row.status.startswith(('practice','unranked')) and isinstance(Recipe().but(arch='one_layer').model,
            ModelSpec)
    with pytest.raises(BadInput, match='whole model'): Recipe().but(arch='one_layer', act='mish')

def test_a_network_must_be_a_module():
    archs.register('text')(lambda n_out, size: 'layers')
    try:
        with pytest.raises(BadInput, match='torch Module'): build(ModelSpec('text'))
    finally: del archs['text']


# Augmentations

def digits(**kw): return plan('digits', epochs=2, **dict(size=16, bs=128) | kw)

class See(Callback):
    "Keeps what the network sees, before normalisation is undone"
    order = 100
    def before_fit(self): self.train,self.valid = {},[]
    def before_batch(self):
        if not self.training: self.valid.append(self.x.clone())

@pytest.mark.parametrize('engine', ('fastai','fast'))
def test_augmentations_change_training_and_not_validation(parts, engine):
    def seen(**kw):
        p,got = digits(**kw),See()
        learn = make_learner(p, 0, Machine(device='cpu', workers=0, engine=engine))
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 0., cbs=got)
        return torch.cat(got.valid), learn.recorder.losses
    (a,la),(b,lb) = seen(),seen(aug='dim', aug_by=.01)
    assert torch.equal(a, b), 'validation images are as they were'
    assert [float(o) for o in la]!=[float(o) for o in lb], 'training images are not'

BAD_AUGS = dict(
    range=(lambda x, at: x*255, 'changes pixels that were from 0 to 1 to values from 0 to 255'),
    bytes=(lambda x, at: (x*255).to(torch.uint8), 'the type of the pixels from torch.float32 to torch.uint8'),
    side=(lambda x, at: x[:,:,::2,::2], 'shape of a batch from (8, 3, 16, 16) to (8, 3, 8, 8)'),
    grey=(lambda x, at: x.mean(1, keepdim=True), 'to (8, 1, 16, 16)'), half=(lambda x, at: x[:len(x)//2], 'to (4, 3, '),
    nan=(lambda x, at: x/0, 'not finite'), nothing=(lambda x, at: [x.mul_(.5)] and None, 'gives nothing back'),
    fails=(lambda x, at: no_such_name(x), 'of test_own.py: NameError'), # noqa: F821
    labels=(lambda x, y, at: (x*255, y, y, torch.ones(len(y))), 'about -3 to 3'))

@pytest.mark.parametrize('k', BAD_AUGS)
@pytest.mark.parametrize('engine', ('fastai','fast'))
def test_an_augmentation_that_changes_the_form_of_a_batch_is_refused(parts, registries_stay, k, engine):
    augs['odd'] = lambda r: BAD_AUGS[k][0]
    with pytest.raises(BadInput) as e:
        make_learner(digits(aug='odd'), 0, Machine(device='cpu', workers=0, engine=engine))
    assert str(e.value).startswith('aug odd ') and BAD_AUGS[k][1] in str(e.value)

def test_an_augmentation_is_tried_at_each_size_of_growing_images(parts, registries_stay):
    augs['fixed'] = lambda r: lambda x, at: nn.functional.pad(x, (0, 64-x.shape[3], 0, 64-x.shape[2]))
    def made(**kw):
        return make_learner(digits(aug='fixed', size=64, **kw), 0, Machine(device='cpu', workers=0, engine='fast'))
    made()
    with pytest.raises(BadInput, match='from .8, 3, 32, 32. to .8, 3, 64, 64.'): made(progressive=.5)

def test_a_network_without_weights_to_train_is_refused(parts, registries_stay):
    archs.register('still')(lambda n_out, size: nn.Sequential(nn.Conv2d(3, n_out, 3).requires_grad_(False),
                                                              nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(BadInput, match='no weights to train'):
        make_learner(digits(arch='still'), 0, Machine(device='cpu', workers=0, engine='fast'))

@pytest.mark.parametrize('aug', ('trivial', *(pytest.param(k, marks=pytest.mark.slow)
                                             for k in ('mix','alternate_flip'))))
def test_an_augmentation_gives_the_same_on_both_engines(aug):
    "For the same seed, epoch and image; the order of images is each engine's own"
    places = {}
    for engine in ('fastai','fast'):
        p,at = digits(aug=aug, flip=0., bs=256),[]
        learn = make_learner(p, 7, Machine(device='cpu', workers=0, engine=engine))
        augment = next(o.augment for o in learn.cbs if hasattr(o, 'augment'))
        was = augment.next_key
        augment.next_key = lambda n, was=was, at=at: at.append(was(n)) or at[-1]
        with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.)
        n = len(p.manifest.train)//p.recipe.bs
        assert [o.epoch for o in at]==[0]*n+[1]*n and {o.seed for o in at}=={7}
        for e in (0,1):
            index = [i for o in at if o.epoch==e for i in o.index]
            assert len(set(index))==len(index)==n*p.recipe.bs and max(index)<len(p.manifest.train)
        places[engine] = {(o.epoch, i):u for o in at for i,u in zip(o.index, o.rand(3).tolist())}
    both = places['fastai'].keys() & places['fast'].keys()
    assert len(both)>1000 and all(places['fastai'][k]==places['fast'][k] for k in both)

@pytest.mark.parametrize('engine', ('fastai','fast'))
def test_the_place_names_the_very_images(engine):
    "The numbers of a batch are those of its images in the training set"
    p,labels = digits(aug='mix', flip=0.),[]
    learn = make_learner(p, 0, Machine(device='cpu', workers=0, engine=engine))
    augment,was = next((o.augment, o.augment.g) for o in learn.cbs if hasattr(o, 'augment'))
    def g(x, y, at):
        labels.append((y.tolist(), [p.manifest.classes.index(p.manifest.label(p.manifest.train[i])) for i in at.index]))
        return was(x, y, at)
    augment.g = g
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.)
    assert labels and all(a==b for a,b in labels)

@pytest.mark.parametrize('kw', (dict(mixup=.2), dict(cutmix=1.)), ids=str)
def test_two_that_change_labels_are_refused(kw):
    with pytest.raises(BadInput, match=f'aug mix and {next(iter(kw))} both change labels: give one of them'):
        make_learner(digits(aug='mix', **kw), 0, Machine(device='cpu', workers=0, engine='fast'))

def test_draws_are_uniform_and_independent():
    u = torch.cat([DrawKey(s, e, tuple(range(2000))).rand(3, kind=k) for s in (0, 2**31-1) for e in range(3)
                   for k in (0, 1)])
    assert abs(u.mean()-.5)<.005 and abs(u.std()-12**-.5)<.005 and u.min()>=0 and u.max()<1
    assert len({*u.flatten().tolist()})>.99*u.numel()

def test_seeds_repeat_with_an_augmentation():
    p = digits(aug='trivial')
    one = replace(p.track, epochs=1)
    a,b = (fit(Job(one, p.recipe, p.manifest), 3, Machine(device='cpu', workers=0, engine='fast')).preds
           for _ in range(2))
    assert a==b

def test_an_exported_learner_predicts_without_its_augmentation(parts, tmp_path):
    from fastai.learner import load_learner
    for aug in ('dim','mix'):
        p = digits(aug=aug)
        learn = make_learner(p, 0, Machine(device='cpu', workers=0, engine='fast'))
        learn.path = tmp_path
        learn.export()
        other = load_learner(tmp_path/'export.pkl')
        x = learn.dls.valid.one_batch()[0]
        with torch.no_grad(): assert torch.allclose(learn.model.eval()(x), other.model.eval()(x), atol=1e-4)


# Optimisers and schedules of libraries, losses, gradients, averages, groups

CHOICES = [dict(opt='timm:lion'), dict(opt='timm:cadamw', opt_caution=False), dict(opt='torch:SGD', opt_nesterov=True),
           dict(opt='timm:muon'),
           dict(sched='timm:cosine', sched_warmup_epochs=1), dict(sched='torch:CosineAnnealingLR'),
           dict(loss='bce', smooth=0.),
           dict(grad='clip', grad_max_norm=.1), dict(grad='accumulate'), dict(average='tail', average_start=.5),
           dict(group='norm_bias')]

def once(recipe):
    p = digits()
    return fit(Job(replace(p.track, epochs=1), recipe, p.manifest), 0, Machine('cpu'))

@pytest.fixture(scope='module')
def usual(): return once(recipes('digits')())

@pytest.mark.parametrize('kw', mostly_nightly(CHOICES, 0, 4, 7, 10), ids=str)
def test_choices_change_the_training_and_stay_in_the_record(kw, usual):
    recipe = digits(**kw).recipe
    assert from_dict(json.loads(json.dumps(to_dict(recipe))))==recipe
    a,b = once(recipe),once(recipe)
    assert usual.preds!=a.preds==b.preds and not a.diverged

def test_fields_without_use_are_refused():
    for kw,hint in ((dict(opt='torch:SGD', sqr_mom=.9), 'sqr_mom'), (dict(opt='timm:lion', eps=1e-3), 'eps'),
                    (dict(sched='timm:cosine', pct_start=.5), 'pct_start')):
        with pytest.raises(BadInput, match=f'makes no use of {hint}'): Recipe().but(**kw)

def test_norms_and_biases_have_no_decay_with_a_library():
    "fastai's rule holds for every optimiser"
    p = digits(opt='torch:SGD')
    learn = make_learner(p, 0, Machine(device='cpu', workers=0, engine='fastai'))
    learn.create_opt()
    learn.fit(1, 0.)
    decayed = {id(q) for g,h in zip(learn.opt.param_lists, learn.opt.hypers) if h['wd'] for q in g}
    for k,q in learn.model.named_parameters(): assert (id(q) in decayed)==(q.ndim>1), k
