"The original authors' systems: their layers, networks, protocols and numbers, and where ours differ"
import json
from dataclasses import replace
from types import SimpleNamespace
import numpy as np
import pytest
import torch
from torch import nn
from conftest import root, tiny_dataset
from woofbench.train.machine import Machine
from woofbench.data.augment import Augment, DrawKey, augs
from woofbench.data.loaders import Batching, make_loaders
from woofbench.data.manifest import verify
from woofbench.data.batches import load_images
from msgspec.structs import replace as changed
from audit import comparable, faults, reported
from woofbench.board.row import Row
from woofbench.models.parts import blocks, convs
from woofbench.train.recipe import Recipe, config_id, from_dict, later, recipes, to_dict
from woofbench.files import canonical
from woofbench.board.record.record import Made, as_record, check_full, check_record
from woofbench.board.record.record import make_record, read_records, record_id
from woofbench.registry import BadInput
from woofbench.commands.prepare import plan
from woofbench.commands.run import run
from woofbench.data.track import Track, make_track
from woofbench.data.val_resize import ways
from woofbench.models.spec import XResNetSpec, change
from woofbench.models.xresnet import build

records = read_records(root)[0]


def n_params(m): return sum(o.numel() for o in m.parameters())


# New fields leave what is written alone

def test_committed_records_keep_their_ids():
    assert len(records)>=13
    for r in records:
        check_record(r)
        assert record_id(r)==r['record_id']
        assert config_id(Track(**r['track']), from_dict(r['recipe']))==r['config_id']
        if r['schema']>=2: check_full(as_record(r))

def test_new_fields_are_written_only_where_they_say_something():
    plain = to_dict(Recipe())
    assert not later & {*plain, *plain['model']}
    kw = dict(dropout=.2, init='torch', aug='trivial', val_resize='crop', sched='one_cycle', div=10., div_final=1e4,
              loss='bce', grad='clip', average='tail', group='norm_bias', head='max', vary='wd')
    new = Recipe().but(**kw)
    d = to_dict(new)
    assert later <= {*d, *d['model']}
    assert from_dict(json.loads(canonical(d)))==new
    ids = {config_id(Track(), Recipe().but(**{k:kw[k]})) for k in kw if k not in ('div','div_final')}
    assert len(ids | {config_id(Track(), Recipe())})==len(kw)-1
    assert config_id(Track(), Recipe())=='c702a52a56568d21'

def test_a_default_that_is_written_out_is_refused():
    "One recipe has one text, and so one id"
    r = next(o for o in records if o['schema']==2)
    for recipe in (r['recipe'] | dict(val_resize='squish'),
                   r['recipe'] | dict(model=r['recipe']['model'] | dict(dropout=0.))):
        rec = r | dict(recipe=recipe)
        rec['record_id'] = record_id(rec)
        with pytest.raises(BadInput, match='not canonical'): check_record(rec)

@pytest.mark.parametrize('kw,hint',
                         [(dict(dropout=1.), 'below 1'), (dict(dropout=True), 'a number from 0'),
                          (dict(init='kaiming'), 'unknown init'), (dict(val_resize='squash'), 'did you mean squish'),
    (dict(aug='jitter'), 'jitter_affine'), (dict(div=10.), 'sched flat_cos makes no use of div'),
    (dict(sched='one_cycle', div=.5), 'at least 1'), (dict(div_final=1e3), 'no use of div_final'),
    (dict(ema=.9, average='tail'), 'ema and average tail both'),
    (dict(sched='torch:ExponentialLR'), 'unknown sched')], ids=str)
def test_new_fields_are_checked(kw, hint):
    with pytest.raises(BadInput, match=hint): Recipe().but(**kw)

def test_another_schedule_drops_what_it_does_not_use():
    r = Recipe().but(sched='one_cycle', div=10.)
    assert r.but(sched='flat_cos')==Recipe()
    assert config_id(Track(), r)!=config_id(Track(), Recipe().but(sched='one_cycle'))


# Validation of another time

@pytest.fixture(scope='module')
def oblong(tmp_path_factory):
    "Upright and oblong images"
    from PIL import Image
    path = tiny_dataset(tmp_path_factory.mktemp('oblong')/'d')
    for i,o in enumerate(sorted((path/'val').rglob('*.JPEG'))):
        rng = np.random.default_rng(i)
        Image.fromarray(rng.integers(0, 256, ((61,97) if i%2 else (90,50)) + (3,), dtype='uint8')).save(o, quality=95)
    return verify(path, 'imagewoof')

@pytest.mark.parametrize('how', ways)
def test_both_engines_validate_on_the_same_images(oblong, how):
    """To the bit those of torchvision, which fastai 1 called, and for squish those of fastai 2; training images are
    cropped as ever"""
    from PIL import Image
    from fastai.vision.augment import RandomResizedCrop
    from fastai.vision.core import PILImage
    from torchvision import transforms as t
    track,cpu = make_track('imagewoof', 32),torch.device('cpu')
    dls = make_loaders(oblong, track, Batching(8, normalize=False, val_resize=how), device=cpu)
    fastai = (torch.cat([b[0] for b in dls.valid])*255).round().byte().permute(0,2,3,1)
    fast = load_images(oblong, track, cpu, cache=False, val_resize=how).valid
    def theirs(path):
        if how=='squish': return np.array(RandomResizedCrop(32)(PILImage.create(path), split_idx=1))
        return np.array(t.Compose([t.Resize(64 if how=='shorter32' else 32), t.CenterCrop(32)])(Image.open(path)))
    want = torch.from_numpy(np.stack([theirs(oblong.root/o) for o in oblong.val]))
    assert torch.equal(fastai.as_subclass(torch.Tensor), want) and torch.equal(fast, want)
    assert dls.train.one_batch()[0].shape==(8,3,32,32)

def test_the_way_of_validation_changes_no_training_crop(oblong):
    from fastai.torch_core import set_seed
    def batches(how):
        set_seed(0, reproducible=True)
        return [b[0] for b in make_loaders(oblong, make_track('imagewoof', 32), Batching(8, val_resize=how),
                                           device='cpu').train]
    for a,b in zip(batches('squish'), batches('shorter32'), strict=True): assert torch.equal(a, b)

def with_recipe(rec, **kw):
    "The record `rec`, with another recipe"
    track,recipe = Track(**rec['track']),from_dict(rec['recipe']).but(**kw)
    runs = [o | dict(seed=i) for i,o in enumerate(rec['runs'])]
    return make_record(track, recipe, rec['data'], runs,
                       Made(rec['code'] | dict(dirty=False), rec['env'], rec['cost'], rec['created'], rec['engine']))

@pytest.mark.parametrize('size,source,n', [(128,'320',5), (64,'192',5)])
def test_rows_with_another_validation_are_never_ranked(size, source, n):
    from woofbench.board.standing import incumbent, standing
    rec = next(o for o in records if o['schema']==2 and o['track']['dataset']=='imagewoof')
    rec = rec | dict(track=rec['track'] | dict(size=size, source=source), data=rec['data'] | dict(known=True))
    usual,other = (Row(with_recipe(rec, **kw)) for kw in ({}, dict(val_resize='shorter32')))
    assert other.status=='practice: validation images by shorter32, not squish'
    assert usual.status==('unranked: exploration seeds' if size==128 else 'practice')
    rows = [usual, other]
    assert standing(other, rows)==other.status and incumbent(other.track, rows) is None
    assert other.line()['status']==other.status and 'val_resize=shorter32' in str(other.recipe)


# Dropout and augmentation

def test_dropout_stands_before_the_classifier():
    a,b = (build(change(XResNetSpec(), 'xresnet10_tiny', dropout=o)) for o in (0., .2))
    assert [type(o) for o in b][-2:]==[nn.Dropout, nn.Linear] and b[-2].p==.2 and n_params(a)==n_params(b)
    assert len(b)==len(a)+1

def test_training_repeats_with_dropout_and_augmentation(tmp_path):
    kw = dict(size=16, epochs=1, seeds=1, dropout=.2, aug='jitter_affine_batch', say=lambda *a: None)
    a,b,c = (run('digits', out=tmp_path/str(i), **kw | more) for i,more in enumerate(({}, {}, dict(engine='fastai'))))
    assert a.runs[0]['preds']==b.runs[0]['preds']
    assert a.runs[0]['init_sha256']==c.runs[0]['init_sha256']

def test_only_training_images_are_augmented(oblong):
    track = make_track('imagewoof', 32)
    augment = Augment(augs('jitter_affine')(Recipe()))
    plain,changed = (make_loaders(oblong, track, Batching(8), device='cpu', augment=o) for o in (None, augment))
    for a,b in zip(plain.valid, changed.valid, strict=True): assert torch.equal(a[0], b[0])
    assert len(changed.after_batch.fs)==len(plain.after_batch.fs)+1

def test_seeds_with_shared_draws_are_trained_one_at_a_time():
    from woofbench.train.multi_seed import train_seeds
    job = plan('digits', size=16, dropout=.1)
    with pytest.raises(BadInput, match='one seed at a time'):
        next(train_seeds(job, [0,1], Machine(device='cpu', seeds_at_once=2), True))

def test_a_draw_a_batch_and_a_draw_an_image():
    torch.manual_seed(0)
    x = torch.rand(1,3,32,32).expand(4,3,32,32).clone()
    at = DrawKey(0, 0, (0, 1, 2, 3))
    assert [len({o.numpy().tobytes() for o in augs(k)(Recipe())(x, at)})
            for k in ('none','jitter_affine_batch','jitter_affine')]==[1,1,4]


# One-cycle, as far as its author let it be set

def rates(**kw):
    "Learning rates and momenta of every step of the schedule, by fastai's own parameters"
    from fastai.callback.schedule import combined_cos
    r = Recipe().but(opt='adam', sched='one_cycle', **kw)
    seen = {}
    learn = SimpleNamespace(fit_one_cycle=lambda n, lr, div, div_final, wd, pct_start, moms: seen.update(
        lr=combined_cos(pct_start, lr/div, lr, lr/div_final), mom=combined_cos(pct_start, *moms)))
    from woofbench.train.optim import scheds
    scheds('one_cycle')(learn, 5, r)
    return seen

def test_one_cycle_is_torchs():
    "The channel-selection experiment's: torch's div_factor 25 and final_div_factor 1000 are a final lr/25,000"
    seen = rates(lr=1e-3, mom=.95, pct_start=.3, div_final=25_000)
    p = nn.Parameter(torch.zeros(1))
    opt = torch.optim.AdamW([p], lr=1e-3)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=1e-3, total_steps=1001, pct_start=.3, div_factor=25,
                                                final_div_factor=1000)
    for i in range(1001):
        now = opt.param_groups[0]
        # torch peaks a step earlier
        assert abs(now['lr']-seen['lr'](i/1000)) < 6e-6 and abs(now['betas'][0]-seen['mom'](i/1000)) < 6e-4
        opt.step()
        if i<1000: sched.step()
    assert abs(opt.param_groups[0]['lr']-4e-8) < 1e-12 and abs(seen['lr'](1.)-4e-8) < 1e-12

def test_one_cycle_alone_peaks_at_three_quarters():
    def peak(**kw): return int(np.argmax([rates(**kw)['lr'](i/100) for i in range(101)]))
    assert (peak(), peak(pct_start=.25))==(75, 25)


# The channel-selection experiment

@pytest.mark.parametrize('preset,params', [('channel_selection',27_363), ('sub_kernels',174_787)])
def test_channel_selection_has_the_authors_counts(preset, params):
    "27,363 and 174,787, as his notebook and his README print them, for three classes"
    from woofbench.models.effect import idle_fields
    m = recipes(preset)().model
    assert n_params(build(m, 3))==params and idle_fields(m)==()
    net = build(m, 3)
    stem,stages,head = list(net)[0],list(net)[1:4],list(net)[4:]
    assert stem[0].stride==(1,1) and stem[0].bias is not None and not [o for o in stem if isinstance(o, nn.BatchNorm2d)]
    assert [o[0].convpath[0][1].num_features for o in stages]==[16,32,64]
    assert [type(o) for o in head]==[nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Linear] and head[2].p==.2
    assert all(o.weight.eq(1).all() for o in net.modules() if isinstance(o, nn.BatchNorm2d)), 'no norm starts at zero'
    pooled = [o for o in net.modules() if isinstance(o, (nn.AvgPool2d, nn.MaxPool2d))]
    assert not pooled, 'identity paths are strided convolutions'

def test_channel_selection_replaces_identity_paths_too():
    from woofbench.tricks.weighted_sum import WeightedSumConv2d
    net = build(recipes('channel_selection')().model, 3)
    assert [type(net[i][0].idpath[0]) for i in (2,3)]==[WeightedSumConv2d]*2
    assert type(net[1][0].idpath) is nn.Identity and net[2][0].idpath[0].conv.stride==(2,2)

def test_channel_selection_starts_as_pytorch_does():
    "The same seed gives the weights of layers that nobody initialises"
    torch.manual_seed(0)
    net = build(recipes('sub_kernels')().model, 3)
    torch.manual_seed(0)
    first = nn.Conv2d(3, 16, 3, padding=1)
    assert torch.equal(net[0][0].weight, first.weight) and torch.equal(net[0][0].bias, first.bias)
    bound = 1/64**.5
    assert net[-1].weight.abs().max()<=bound and net[-1].weight.std()>.5*bound/3**.5

@pytest.mark.parametrize('preset', ('channel_selection','sub_kernels'))
def test_channel_selection_runs(preset, tmp_path):
    row = run('digits', size=16, epochs=1, seeds=1, recipe=preset, out=tmp_path, say=lambda *a: None)
    assert row.status.startswith('unranked') and row.record['recipe']['aug']=='jitter_affine_batch'
    assert row.record['recipe']['model']['dropout']==.2 and row.record['recipe']['model']['init']=='torch'

def test_whole_images_where_nothing_is_cropped():
    "min_scale 1 takes all of a square image"
    from woofbench.data.crops import crop_boxes
    boxes = crop_boxes(torch.tensor([[32,32]]*200), min_scale=1.)
    assert (boxes[:,2:]>=31).all()


# Twists

class Written(nn.Module):
    "The first two layers as their author trains them: kernels are written back before they are used"
    def __init__(self, m, copied):
        super().__init__()
        self.m,self.copied = m,copied
    def forward(self, x):
        m = self.m
        def odd(w): return (w-w.rot90(2, (2,3)))/2
        m.convx.weight.data = odd(m.convx.weight.data)
        m.convy.weight.data = m.convx.weight.data.transpose(2,
                                                            3).flip(2).clone() if self.copied else odd(
                                                                    m.convy.weight.data)
        y = m.conv(x)
        h,w = y.shape[-2:]
        X = (torch.arange(w).to(y)*2/w)[None,:] - m.center_x
        Y = (torch.arange(h).to(y)*2/h)[:,None] - m.center_y
        res = X*m.convx(x) + Y*m.convy(x)
        if not self.copied: return y + res
        r = (X**2+Y**2)/m.radii**2
        return y + torch.where(r<=.7, 1., torch.where(r>=1.3, 0., (1.3-r)/.6).to(y))*res

def trained(name, written=False, opt='ranger', n=30):
    from fastai.optimizer import SGD, Adam, ranger
    torch.manual_seed(0)
    m = convs(name)(3, 5, 3, padding=1).double()
    x,y = torch.randn(8, 3, 8, 8).double(),torch.randn(8, 5, 8, 8).double()
    f = Written(m, name=='twist1') if written else m
    o = dict(ranger=ranger, adam=Adam, sgd=lambda ps, lr: SGD(ps, lr, mom=.9))[opt](list(m.parameters()), lr=.01)
    for _ in range(n):
        (f(x)-y).square().mean().backward()
        o.step()
        o.zero_grad()
    return f(x).detach()

@pytest.mark.parametrize('name', ('twist1','twist_2020'))
@pytest.mark.parametrize('opt', ('ranger','adam','sgd'))
def test_twists_train_as_the_originals(name, opt):
    torch.testing.assert_close(trained(name, opt=opt), trained(name, True, opt), rtol=1e-9, atol=1e-11)

def test_twist_keeps_its_computation_which_is_another_under_adam():
    a,b = trained('twist', opt='adam'),trained('twist_2020', opt='adam')
    assert (a-b).norm()/b.norm() > .01
    torch.testing.assert_close(trained('twist', opt='sgd'), trained('twist_2020', opt='sgd'), rtol=1e-9, atol=1e-11)
    torch.manual_seed(0)
    m = convs('twist')(4, 6, 3, padding=1)
    torch.manual_seed(0)
    n = convs('twist_2020')(4, 6, 3, padding=1)
    x = torch.randn(2,4,8,8)
    torch.testing.assert_close(m(x), n(x))

def test_twist1_has_four_numbers_in_effect_and_copies_them():
    m = convs('twist1')(2, 3, 3, padding=1)
    assert n_params(m)==3*2*3*9 + 3*3
    x = torch.randn(1,2,9,9)
    before = m(x)
    with torch.no_grad():
        m.convy.weight.normal_() # is overwritten
        even = torch.randn(3,2,3,3)
        m.convx.weight += even + even.rot90(2, (2,3)) # so is what is symmetric
    torch.testing.assert_close(m(x), before, rtol=1e-4, atol=1e-5)

def test_no_twist_writes_to_its_parameters():
    for name in ('twist1','twist_2020'):
        m = convs(name)(4, 6, 3, padding=1)
        versions = {k:o._version for k,o in m.named_parameters()}
        m(torch.randn(2,4,8,8)).sum().backward()
        assert {k:o._version for k,o in m.named_parameters()}==versions


# Blocks and starts

def test_hlb_adds_after_the_activation():
    spec = change(XResNetSpec(), 'xresnet18').at(0)
    x = torch.full((2,64,4,4), -1.)
    assert [blocks(o)(spec, 64, 64)(x).unique().tolist() for o in ('se_before_norm','se_before_norm_hlb')]==[[0.],[-1.]]

@pytest.mark.parametrize('n,params', [(50,124_748_826), (101,None), (152,None)])
def test_xse_resnets_of_fastai(n, params):
    from fastai.vision.models import xresnet
    with torch.device('meta'):
        theirs,ours,usual = getattr(xresnet,
                                    f'xse_resnet{n}')(n_out=10),build(change(XResNetSpec(),
                                            f'xse_resnet{n}_fastai')),build(change(XResNetSpec(), f'xse_resnet{n}'))
    assert [o.shape for o in theirs.state_dict().values()]==[o.shape for o in ours.state_dict().values()]
    assert n_params(usual) < n_params(ours)/4 and params in (None, n_params(ours))

def test_two_starts_of_tresnet():
    spec = change(XResNetSpec(), 'tresnet_m')
    def stds(s):
        torch.manual_seed(0)
        m = build(s)
        conv = next(o for o in m.modules() if isinstance(o, nn.Conv2d)
                    and (o.in_channels, o.out_channels, o.kernel_size)==(64,128,(3,3)))
        return conv.weight.std().item(), m[-1].weight.std().item()
    for got,want in ((stds(spec), ((2/576)**.5, (2/2048)**.5)),
                     (stds(replace(spec, init='fan_out')), ((2/1152)**.5, .01))):
        assert all(abs(a/b-1)<.02 for a,b in zip(got, want))

def test_a_start_by_name_is_the_one_that_was():
    from woofbench.models.xresnet import init_weights
    torch.manual_seed(0)
    a = build(change(XResNetSpec(), 'xresnet10_tiny'))
    torch.manual_seed(0)
    b = build(change(XResNetSpec(), 'xresnet10_tiny', init='torch'))
    norms = [o for o in b.modules() if isinstance(o, nn.BatchNorm2d)]
    assert not torch.equal(a[-1].weight, b[-1].weight) and norms
    init_weights(b)
    for x,y in zip(a.parameters(), b.parameters()): assert torch.equal(x, y)


# Presets of the thread

old = 'ranger_mish ranger_mish_sa ranger_mish_blur resnet_trick depthwise_leader fastai_2019_04'.split()

@pytest.mark.parametrize('name', [*old, 'lesson_11', 'max_blur_board', 'channel_selection', 'sub_kernels'])
def test_presets_can_be_run(name):
    "Nothing in them is without effect, their networks can be counted, and they are written and read back"
    from woofbench.models.costs import cost
    from woofbench.models.effect import idle_fields
    r = recipes(name)()
    assert idle_fields(r.model)==() and from_dict(json.loads(canonical(to_dict(r))))==r
    assert cost(r.model, 128)['params']>0

def test_presets_have_the_protocol_of_their_time():
    assert all(recipes(o)().val_resize=='shorter32' for o in old)
    for o in old[:-1]:
        r = recipes(o)()
        assert (r.opt, r.lr, r.mom, r.sqr_mom, r.eps, r.wd, r.pct_start, r.normalize)==('ranger', 4e-3, .95, .99, 1e-6,
                .01, .72, True)
        assert r.model.stem_szs==(32,64,64)
    a,b = recipes('fastai_2019_04')(),recipes('lesson_11')()
    assert (a.sched, a.lr, a.div, a.pct_start, a.mom)==('one_cycle', 7.5e-4, 10, .3, .95)
    assert (b.sched, b.lr, b.div, b.pct_start, b.mom)==('one_cycle', 1e-2, 10, .5, .95)
    assert (recipes('depthwise_leader')().bs, recipes('resnet_trick')().bs)==(16, 64)
    assert recipes('depthwise_leader')(
            ).model.stem_pool=='max' and recipes('resnet_trick')().model.stem_pool=='max_blur_2020'

def test_what_a_preset_was_it_is():
    assert {k:config_id(Track(), recipes(k)()) for k in ('official','official_2020_01','digits')}=={
        'official':'c702a52a56568d21', 'official_2020_01':'d71b29df02672f52', 'digits':'cb40588691a69285'}


# Reported rows that never were on the page

yasyrev = [o for o in reported('imagewoof') if o.state=='elsewhere']

def test_ayasyrevs_rows_are_reported():
    "As his README and the thread print them, at 128, 192 and 256 px"
    got = {(o.size, o.epochs, o.accuracy, o.n) for o in yasyrev}
    assert got=={(128,5,'73,58%',5), (128,20,'85,22%',5), (128,20,'86.10%',None), (128,80,'87.63%',3),
                 (128,200,'88.30%',3), (192,80,'89.69%',4), (192,200,'90.35%',2), (256,80,'90.63%',2),
                 (256,200,'91.14%',3)}
    assert all(o.status=='reported: elsewhere' and o.added_by=='ayasyrev' for o in yasyrev)

def test_what_is_doubtful_in_them_is_said():
    for o in yasyrev:
        mine = SimpleNamespace(track=Track('imagewoof', o.size, o.epochs, o.source or '320'),
                               data=dict(known=True, edition=''), n=5, val_resize='shorter32')
        assert comparable(mine, o)==(False, 'it never was on the page')
        assert not comparable(mine, changed(o, state='replaced', logged=None))[0], 'few runs, or no spread'
        if o.size<256 and o.protocol: assert "made from full images, and the cell's are 320" in faults(o)
        if o.protocol: assert o.known('val_resize')=='shorter+32' and len(o.logged)==o.n
        else: assert 'no number of runs' in ' '.join(o.notes)
    pooled = [(o.size, o.epochs) for o in yasyrev if any('two settings' in s for s in o.notes)]
    assert pooled==[(128,80), (128,200)]

def test_a_row_of_another_validation_is_not_compared_with_todays():
    "At 256 px his rows come from the cell's own files; the way of validation tells them apart"
    r = next(o for o in reported('imagewoof', 256, 20) if o.accuracy=='88,58%')
    def mine(how):
        return SimpleNamespace(track=make_track('imagewoof', 256, 20), data=dict(known=True, edition=''), n=5,
                               val_resize=how)
    assert comparable(mine('squish'), r)==(False, 'validated on images by shorter+32, not by squish')
    assert comparable(mine('shorter32'), r)[0]


# Printed means printed

def page(name):
    return '\n'.join(''.join(c['source'])
                     for c in json.loads((root/'nbs'/f'{name}.ipynb').read_text(encoding='utf-8'))['cells'])

def test_the_leader_is_linked_where_the_board_links_it():
    leader = next(o for o in reported('imagewoof', 128, 5) if o.accuracy=='76.61%')
    assert leader.link in page(
            'tricks/depthwise') and leader.link.endswith('/imagenette_experiments/blob/master/ResNet_separable.ipynb')

def test_the_baseline_of_max_blur_is_cut_to_two_digits_right():
    "14,055 right answers of 19,645 in five runs with max pools are 71.5449 %"
    assert f"{100*14055/(5*3929):.2f}"=="71.54"
    assert '71.54 to 73.38 %' in page('tricks/max_blur') and '71.55' not in page('tricks/max_blur')

def test_the_catalogue_keeps_printed_apart_and_shows_ranges():
    text = page('catalogue')
    assert "'printed', 'their code gives', 'here'" in text
    ns = {}
    start = text.index('epochs = {')
    exec(text[start:text.index('test_eq([theirs[k]')], ns)
    assert ns['theirs']['act mish']=='x0.83 to x0.96', 'the same author printed both'
    assert ns['theirs']['block reduce_first']=='x1.01 to x1.11' and ns['theirs']['pool max_blur_2020']=='x0.62 to x0.96'
