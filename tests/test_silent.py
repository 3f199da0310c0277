"What would go wrong without a word: another thing than you asked for, a wrong count, files that are lost"
import json, sys
from functools import lru_cache
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from woofbench import Param, acts, archs, losses, scheds
from woofbench.board.stats.tests import smallest_effect
from woofbench.board.table import find_row
from woofbench.board.trials import count_trial, trials
from woofbench.commands.cli import make_parser
from woofbench.commands.ablate import ablate
from woofbench.files import out_folder
from woofbench.commands.prepare import check_apart, plan
from woofbench.commands.run import run
from woofbench.commands.tune import parse_space, read_space, tune
from woofbench.data.track import Track
from woofbench.models.costs import cost
from woofbench.registry import BadInput
from woofbench.train.imports import import_parts
from woofbench.train.learner import make_learner
from woofbench.train.machine import Machine

small = dict(size=16, epochs=1, recipe='digits', arch='xresnet10_tiny', bs=4, workers=0, say=None)

def photos(root, n=6, split=('train','val'), val_side=16):
    "Two classes of noise"
    rng = np.random.default_rng(len(root.name))
    for path in (root/s/c/f'{i}.png' for s in split for c in 'ab' for i in range(n)):
        path.parent.mkdir(parents=True, exist_ok=True)
        side = val_side if path.parts[-3]=='val' else 16
        Image.fromarray(rng.integers(0, 255, (side,side,3), dtype=np.uint8)).save(path)
    return root

@pytest.fixture(scope='module')
def flowers(tmp_path_factory): return photos(tmp_path_factory.mktemp('own')/'flowers')


# Files that are not woofbench's

def test_a_cache_in_a_folder_of_yours_removes_none_of_your_files(cli, tmp_path, monkeypatch):
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path))
    mine = ['thesis.txt','photos/a.png','digits-320/a.png','store-notes.rgb','scan.json','.bashrc']
    ours = ['digits-32/train/0/1.png','store-00ff.rgb',f'scan-{"0a"*8}.json',f'whole-{"0a"*8}','.store-00ff.rgb.ab.tmp']
    for o in mine+ours:
        (tmp_path/o).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/o).write_text('x')
    assert 'thesis' not in cli('cache')[1]
    assert cli('cache --clear thesis.txt')[0]==2
    assert cli('cache --clear')[0]==0
    assert sorted(str(o.relative_to(tmp_path)) for o in tmp_path.rglob('*') if o.is_file())==sorted(mine)


def test_no_decoded_images_stay_on_disk_where_you_ask_for_none(tmp_path, monkeypatch):
    "An ablation makes a learner of each recipe before it trains; a learner decodes images too"
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'cache'))
    what = small | dict(engine='fast', device='cpu')
    ablate('act=relu', photos(tmp_path/'ablated', 7), seeds=2, out=tmp_path, cache=False, **what)
    job = plan(photos(tmp_path/'learnt', 8), 16, 1, recipe='digits', arch='xresnet10_tiny', bs=4)
    make_learner(job, 0, Machine('cpu', engine='fast', cache=False), shows=False)
    assert not [*(tmp_path/'cache').rglob('store-*')]


# Fields that change nothing, or everything

@pytest.mark.parametrize('changes,says', [
    (dict(grad='accumulate', grad_batches=9), 'no weight would change'),
    (dict(loss='bce', loss_threshold=.2, smooth=.1), 'undoes the label smoothing'),
    (dict(vary='wd', vary_end=1.), 'changes nothing'),
    (dict(vary='mom', vary_start=.9, mom=.9), 'nothing would change')])
def test_a_field_without_an_effect_is_refused_before_the_training(changes, says, flowers, tmp_path):
    with pytest.raises(BadInput, match=says): run(flowers, seeds=1, out=tmp_path, **small | changes)
    assert not (tmp_path/'records').exists()


# A search

@pytest.mark.parametrize('name', ['mixup','cutmix','lr','wd','div'])
def test_a_range_of_a_rate_has_what_is_between_two_whole_numbers(name):
    assert not parse_space([f'{name}=1..2'])[name].whole

@pytest.mark.parametrize('name', ['bs','groups','expansion'])
def test_a_range_of_a_number_of_things_is_whole(name): assert parse_space([f'{name}=2..4'])[name].whole

@pytest.mark.parametrize('given,says', [
    (['lr=1e-4...1e-2'], 'two numbers'), (['min-scale=.2..0.5','min_scale=.3..0.6'], 'once'),
    ({'min-scale':'.2..0.5', 'min_scale':'.3..0.6'}, 'once'), (['lr=0.01,1e-2'], 'each once'), (5, 'FIELD=A,B,C'),
    (None, 'FIELD=A,B,C'), ([5], 'FIELD=A,B,C')])
def test_a_space_with_two_meanings_is_refused(given, says):
    with pytest.raises(BadInput, match=says): read_space(given)

def test_no_part_is_called_none_as_at_the_command_line():
    assert parse_space(dict(sa=[None, 'simple_sa']))==parse_space(['sa=none,simple_sa'])

@pytest.mark.parametrize('changes', [dict(max_epochs='5'), dict(max_epochs=-1), dict(max_epochs=2.5), dict(trials=0),
    dict(max_seconds=float('nan')), dict(max_seconds=-1), dict(max_seconds='x'), dict(max_seconds=True)])
def test_a_budget_is_checked_before_training(changes, tmp_path):
    with pytest.raises(BadInput, match=next(iter(changes))): tune('lr=1e-3..1e-2', out=tmp_path, **small | changes)
    assert not list(tmp_path.iterdir())

def test_a_search_in_images_of_another_source_is_refused(flowers, tmp_path):
    with pytest.raises(BadInput, match='source 16, not 160'):
        tune('lr=1e-3..1e-2', flowers, source='160', out=tmp_path, **small)

def test_trials_count_where_validation_images_have_other_sides(tmp_path):
    "The search sees training images alone, and takes their side for the source of all"
    root = photos(tmp_path/'mixed', val_side=40)
    found = tune('lr=1e-3,1e-2', root, trials=2, out=tmp_path/'board', **small)
    row = run(root, seeds=1, out=tmp_path/'board', **small)
    assert found.search.job.track.source!=row.track.source and found.spent==2
    assert row.record.tuning==2

@pytest.mark.parametrize('damage', [b'\xff\xfe\0', b'0123456789abcdef <html>', b'0123'])
def test_a_damaged_count_of_trials_is_not_a_lower_count(damage, flowers, tmp_path):
    track = Track('flowers', 16, 1, '16')
    count_trial(tmp_path, track, 'a', 'b', 0)
    path, = tmp_path.rglob('trials.txt')
    path.write_bytes(damage)
    for f in (lambda: trials(tmp_path, track), lambda: count_trial(tmp_path, track, 'a', 'b', 1),
              lambda: run(flowers, seeds=1, out=tmp_path, **small)):
        with pytest.raises(BadInput, match='bring it back from a copy'): f()
    assert path.read_bytes()==damage and not list(tmp_path.rglob('seed-*'))


# Which images

def test_two_folders_for_one_dataset_are_refused(flowers, tmp_path, refused):
    other = photos(tmp_path/'cats')
    with pytest.raises(BadInput, match='leave data out'): run(flowers, data=other, out=tmp_path, **small)
    with pytest.raises(BadInput, match='leave data out'): tune('lr=.01,.02', flowers, data=other, out=tmp_path, **small)
    assert 'leave data out' in refused(f'run --dry-run --dataset {flowers} --data {other}')
    for same in (flowers, flowers.parent, str(flowers)): assert plan(flowers, data=same, bs=4).manifest.root==flowers

@pytest.mark.parametrize('data', ['', ' ', 5, False])
def test_a_folder_without_a_name_is_not_the_usual_folder(data, flowers):
    for dataset in ('imagewoof', 'digits', flowers):
        with pytest.raises(BadInput, match='data'): plan(dataset, data=data)

@pytest.mark.parametrize('flag', ['--recipe=','--arch=','--data=','--dataset=','--log=','--out=','--act=',"--plot=' '"])
def test_a_flag_with_an_empty_variable_of_the_shell_is_refused(flag, refused):
    assert 'is empty' in refused(f'run --dry-run {flag}')

def test_an_argument_that_is_empty_is_refused(refused):
    assert 'is empty' in refused("ablate '' --one-at-a-time act=relu")
    assert 'is empty' in refused("check ''")

def test_an_empty_note_is_a_note(cli, tmp_path):
    assert cli(f'run --dry-run --note= --size 16 --arch xresnet10_tiny --out {tmp_path}')[0]==0

def test_home_is_not_a_folder_of_that_name(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert out_folder('~/board')==tmp_path/'board'
    args = make_parser().parse_strict(['run','--out=~/board','--data=~','--note=~/x','--act=~x'])
    assert (args.out, args.data, args.note, args.act)==(f'{tmp_path}/board', str(tmp_path), '~/x', '~x')


# Values in Python

@pytest.mark.parametrize('k', ['official','again','cache','compile'])
def test_the_word_no_is_not_yes(k, flowers, tmp_path):
    for v in ('no', 0, None):
        with pytest.raises(BadInput, match=f'{k} must be True or False'): run(flowers, out=tmp_path, **small | {k:v})
    assert not list(tmp_path.rglob('seed-*'))

@pytest.mark.parametrize('changes', [dict(note=5), dict(note=None), dict(noise=False), dict(noise=0.), dict(log_to=5),
    dict(recipe='')])
def test_other_types_are_refused_before_training(changes, flowers, tmp_path):
    with pytest.raises(BadInput, match=next(iter(changes)).partition('_')[0]):
        run(flowers, out=tmp_path, seeds=1, **small | changes)
    assert not list(tmp_path.rglob('seed-*'))

@pytest.mark.parametrize('args', [(-1,), (float('nan'),), (float('inf'),), (1, 1), (1, 0), (1, 5, 0)])
def test_a_smallest_effect_is_never_below_zero(args):
    with pytest.raises(ValueError, match='std must|two seeds'): smallest_effect(*args)


# Weights of a row

part = '''
from torch import nn
from woofbench import acts
@acts.register('shout')
class Shout(nn.Module):
    def __init__(self):
        super().__init__()
        print('made')
    def forward(self, x): return BODY
'''

@pytest.fixture
def shouting(flowers, tmp_path, registries_stay):
    exec(part.replace('BODY', 'x.relu()'), {'__name__':'__main__'})
    return run(flowers, seeds=1, act='shout', keep='weights', out=tmp_path/'board', **small)

def test_weights_are_not_used_with_other_code(shouting, flowers, tmp_path):
    image = flowers/'val'/'a'/'0.png'
    was = shouting.predict(image).probabilities
    exec(part.replace('BODY', 'x.relu()'), {'__name__':'__main__'}) # the same cell once more
    assert (shouting.predict(image).probabilities==was).all()
    exec(part.replace('BODY', '-x.abs()'), {'__name__':'__main__'})
    for f in (lambda: shouting.predict(image), lambda: shouting.export(tmp_path/'x.pt2'), shouting.learner,
              lambda: find_row(shouting.id, tmp_path/'board').predict(image)):
        with pytest.raises(BadInput, match='other code of act shout'): f()

def test_pixels_beyond_eight_bits_are_not_cut_off(shouting):
    for x in (np.full((16,16), 40000, np.uint16), np.full((16,16), .5, np.float32), np.full((16,16), 70000, np.int32)):
        with pytest.raises(BadInput, match='8 bits a channel'): shouting.predict(Image.fromarray(x))


# JSON

def test_what_a_part_prints_is_not_in_the_document(flowers, tmp_path, cli, monkeypatch, registries_stay):
    monkeypatch.chdir(tmp_path)
    Path('shout.py').write_text(part.replace('BODY', 'x.relu()') + "print('imported')\n")
    own = '--import shout.py --act shout --size 16 --arch xresnet10_tiny --json'
    lines = (f'run {own} --dataset {flowers} --epochs 1 --seeds 1 --recipe digits --bs 4', f'cost {own} --rounds 1',
             f'run {own} --dataset {flowers} --dry-run --bs 4')
    for o in lines:
        rc,out,err = cli(o)
        assert rc==0 and json.loads(out) and 'made' in err


# What is said before

@pytest.mark.parametrize('flag,says', [('--note "<b>"', 'a note has'), ('--log csvv', 'did you mean csv'),
    ('--seeds 50 --epochs 1000', 'more than one record holds')])
def test_a_dry_run_refuses_what_a_run_would(flag, says, flowers, tmp_path, refused):
    line = f'run --dry-run --dataset {flowers} --size 16 --bs 4 --arch xresnet10_tiny --out {tmp_path} {flag}'
    assert says in refused(line)

def test_a_dry_run_without_images_checks_the_recipe(refused, tmp_path, monkeypatch):
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'empty'))
    assert 'makes no image smaller' in refused('run --dry-run --size 32 --progressive .5 --arch xresnet10_tiny')

def test_a_board_that_a_run_would_make_stops_nothing(cli, tmp_path):
    rc,out,_ = cli(f'doctor --out {tmp_path}/new/board')
    assert rc==0 and 'the first run makes one here' in out and not (tmp_path/'new').exists()

def test_check_and_force_are_not_both(refused, tmp_path): assert 'not both' in refused('board --check --force')

def test_a_file_that_was_edited_is_not_the_one_that_was_imported(tmp_path, registries_stay):
    path = tmp_path/'shout_twice.py'
    path.write_text(part.replace('BODY', 'x.relu()'))
    assert import_parts(path)==import_parts(path)
    path.write_text(part.replace('BODY', '-x'))
    with pytest.raises(BadInput, match='has changed since it was imported'): import_parts(path)

@pytest.mark.parametrize('split', [('Train','Val'), ('train','valid'), ('training','validation'), ('TRAIN','TEST')])
def test_splits_of_other_names_are_not_classes(split, tmp_path):
    with pytest.raises(BadInput, match='train and val|both, or neither'):
        plan(photos(tmp_path/'cats', split=split), bs=4)

@pytest.mark.parametrize('name', ['cafe\u0301', 'a<b>', 'a|b'])
def test_a_class_that_no_record_can_name_says_what_to_do(name, tmp_path):
    root = photos(tmp_path/'cats')
    for o in ('train','val'): (root/o/'a').rename(root/o/name)
    with pytest.raises(BadInput, match='rename its folder'): run(root, seeds=1, out=tmp_path/'board', **small)
    assert not list(tmp_path.rglob('seed-*'))


# Parts of yours

@pytest.fixture
def parts():
    "Takes registered parts away again"
    before = {reg.kind:{*reg} for reg in (acts, archs, losses, scheds)}
    yield
    for reg in (acts, archs, losses, scheds):
        for k in {*reg}-before[reg.kind]: reg.pop(k)
        for k in {*reg.params}-{*reg}: del reg.params[k]

SCALE = torch.tensor([.5, 1., 1.5, 2.])

class Gate(nn.Module):
    "ReLU with a fixed scale for each channel"
    def __init__(self, scale=None):
        super().__init__()
        self.register_buffer('scale', SCALE if scale is None else scale)
    def forward(self, x): return x.relu()*self.scale.repeat(x.shape[1]//4)[None,:,None,None]

digits = dict(dataset='digits', size=16, bs=128, epochs=1, arch='xresnet10_tiny', seeds=1, say=None)

def test_counting_costs_changes_no_tensor_of_yours(tmp_path, parts):
    acts.register('gate')(Gate)
    acts.register('copied')(lambda: Gate(SCALE.clone()))
    rows = [run(act=o, out=tmp_path/o, **digits | dict(bs=32)) for o in ('gate','copied')]
    assert SCALE.tolist()==[.5, 1., 1.5, 2.] and rows[0].acc==rows[1].acc and rows[0].acc[0]>.5

def test_networks_that_share_a_parameter_are_refused(tmp_path, parts):
    one,slope = nn.PReLU(),torch.full((1,), .25)
    acts.register('one_module')(lambda: one)
    acts.register('one_tensor')(type('Tied', (nn.PReLU,), dict(
        __init__=lambda self: (nn.PReLU.__init__(self), setattr(self, 'weight', nn.Parameter(slope)))[0])))
    for o in ('one_module','one_tensor'):
        with pytest.raises(BadInput, match='share the tensor'): run(act=o, out=tmp_path, **digits)
    assert one.weight.requires_grad and one.training and one.weight.item()==slope.item()==.25
    norm,fixed = nn.BatchNorm2d(16, affine=False),nn.Conv2d(3, 8, 3).requires_grad_(False)
    archs.register('stats')(lambda n_out, size: nn.Sequential(nn.Conv2d(3, 16, 1), norm, nn.Flatten(),
                                                              nn.Linear(16*size*size, n_out)))
    archs.register('frozen')(lambda n_out, size: nn.Sequential(fixed, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                                               nn.Linear(8, n_out)))
    with pytest.raises(BadInput, match='share the tensor 1.running_mean'):
        run(out=tmp_path, **digits | dict(arch='stats'))
    check_apart(plan('digits', arch='frozen').recipe, 10, 32) # nothing of it is learnt
    with pytest.raises(BadInput, match='no trial was trained'):
        tune('lr=1e-3,2e-2', trials=1, act='one_module', dataset='digits', epochs=1, arch='xresnet10_tiny',
             out=tmp_path, say=None)

def test_costs_of_networks_of_yours_are_those_of_others(parts):
    def attention(n_out, size):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.f = nn.functional # cannot be copied
                self.conv,self.attn = nn.Conv2d(3, 32, 8, 8),nn.MultiheadAttention(32, 4, batch_first=True)
                self.head = nn.Linear(32, n_out)
            def forward(self, x):
                x = self.conv(x).flatten(2).transpose(1, 2)
                return self.head(self.attn(x, x, x, need_weights=False)[0].mean(1))
        return Net()
    archs.register('attends')(attention)
    n,d = (64//8)**2,32 # tokens and channels
    want = 3*64*n*d + 4*n*d*d + 2*n*n*d + 10*d
    assert cost(plan('digits', arch='attends').recipe.model, 64)['macs']==want

def test_a_tensor_that_is_kept_from_the_first_network_on(tmp_path, parts):
    "Kernels are often made once"
    table = lru_cache(lambda: torch.empty(4).uniform_(.5, 2.))
    acts.register('cached')(lambda: Gate(table()))
    torch.manual_seed(1)
    was = torch.get_rng_state()
    plan('digits', act='cached')
    assert torch.equal(torch.get_rng_state(), was), 'the random state is as before'
    assert .5<=table().min()<table().max()<=2, 'numbers'
    assert run(act='cached', out=tmp_path, **digits | dict(bs=32)).acc[0]>.5

def test_a_part_that_needs_numbers_to_be_built(tmp_path, parts):
    "An inverted matrix of drawn numbers: without them it is singular"
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(4, 4))
            nn.init.normal_(self.w)
            self.register_buffer('inverse', torch.linalg.inv(self.w.detach()))
        def forward(self, x): return x.relu() + 0*self.inverse.sum()
    acts.register('mixed')(Mixed)
    assert plan('digits', act='mixed').cost['macs']==plan('digits', act='relu').cost['macs']
    assert run(act='mixed', out=tmp_path, **digits).n==1

@pytest.mark.parametrize('layer,said', (
    (lambda n, px: nn.Linear(3*px*px, 300), r'shape \(1, 300\) for one image and 10 classes'),
    (lambda n, px: nn.Linear(3*px*px, 5), r'shape \(1, 5\)'), (lambda n, px: nn.LazyLinear(n), 'lazy layer'),
    (lambda n, px: nn.Sequential(nn.Linear(3*px*px, n), nn.Unflatten(1, (n, 1))), r'shape \(1, 10, 1\)')))
def test_a_network_without_logits_is_refused(tmp_path, parts, layer, said):
    archs.register('odd_net')(lambda n_out, size: nn.Sequential(nn.Flatten(), layer(n_out, size)))
    with pytest.raises(BadInput, match=said): run(out=tmp_path, **digits | dict(arch='odd_net'))

def test_two_parts_that_need_one_value_are_refused(parts):
    acts.register('w1', params=dict(slope=Param(.1, 'Slope', 0, 1)))(lambda *, slope: nn.LeakyReLU(slope))
    acts.register('w2', params=dict(slope=Param(3., 'Slope', 1, 9)))(lambda *, slope: nn.LeakyReLU(slope))
    with pytest.raises(BadInput, match='act w1 and act w2 both have a parameter slope'):
        plan('digits', act=('w1','w2','w2','w2'))
    assert dict(plan('digits', act='w2').recipe.model.params)=={'act_slope':3.}
    acts.register('w4', params=dict(slope=Param(.1, 'In other words', 0, 1)))(lambda *, slope: nn.ELU(slope))
    plan('digits', act='w1', stem_act='w4')
    for p,said in ((2., 'must be a Param'), (Param(5., 'x', 0, 1), 'the default of k .* from 0 to 1, not 5'),
                   (Param(None, 'x'), 'must be a word'), (Param(123456., 'x'), 'more than four digits')):
        with pytest.raises(BadInput, match=said): acts.register('w3', params=dict(k=p))(nn.ReLU)
    with pytest.raises(BadInput, match="another type than that of act 'w1'"):
        acts.register('w3', params=dict(slope=Param(True, 'x')))(nn.ReLU)

def test_parts_that_differ_in_a_value_alone_are_two_parts(parts):
    class Scaled(nn.Module):
        def __init__(self, k):
            super().__init__()
            self.k = torch.tensor(k)
        def forward(self, x): return x.relu()*self.k
    for name,k in (('half',.5), ('double',2.)): acts.register(name)(lambda k=k: Scaled(k))
    for o in (dict(act='double', stem_act='half'), dict(act=('half','double','double','double'))): plan('digits', **o)
    assert plan('digits', act='double', stem_act='double').recipe.model.stem_act is None

def test_a_loss_of_torch_predicts_and_says_what_it_cannot_mix(tmp_path, parts):
    losses.register('plain_ce')(lambda r: nn.CrossEntropyLoss())
    row = run(loss='plain_ce', keep='weights', out=tmp_path, **digits)
    p = row.predict(np.zeros((32, 32, 3), np.uint8))
    assert abs(p.probabilities.sum()-1)<1e-5
    with pytest.raises(BadInput, match='plain_ce cannot be used with mixed classes'):
        run(loss='plain_ce', mixup=.4, out=tmp_path, **digits)

def test_a_schedule_that_leaves_out_epochs_is_named(tmp_path, parts):
    scheds.register('short')(lambda learn, epochs, r: learn.fit(1, r.lr))
    with pytest.raises(BadInput, match='the schedule short, or another part, has trained 1 epoch and not 2'):
        run(sched='short', out=tmp_path, **digits | dict(epochs=2))

def test_tuning_begins_anew_with_other_code(tmp_path, parts):
    class Half(nn.Module):
        def forward(self, x): return x.relu()
    class None_(nn.Module):
        def forward(self, x): return x*0
    how = dict(dataset='digits', epochs=1, arch='xresnet10_tiny', out=tmp_path, act='mine', say=None)
    acts.register('mine')(Half)
    first = tune('lr=1e-3,2e-2', trials=1, **how)
    acts.pop('mine')
    acts.register('mine')(None_)
    second = tune('lr=1e-3,2e-2', trials=1, **how)
    assert first.search.key!=second.search.key and second.spent==2
    assert second.study.best_value<.2<first.study.best_value and first.importance()=={}

def test_draws_again_are_no_trials(tmp_path):
    found = tune('bs=16,32', dataset='digits', epochs=1, arch='xresnet10_tiny', trials=4, out=tmp_path, say=None)
    assert found.spent==2 and str(found).count('%')==2, found
    with pytest.raises(BadInput, match='each once'): parse_space('act=mish,Mish')

@pytest.mark.parametrize('say', (True, 'x'))
def test_say_is_a_function_or_none(tmp_path, say):
    with pytest.raises(BadInput, match='say must be a function'): run(out=tmp_path, **digits | dict(say=say))

def test_an_error_of_a_part_says_in_which_seed_and_epoch(tmp_path, parts):
    class Late(nn.Module):
        def forward(self, x):
            if self.training and x.std()>0: raise RuntimeError('too late')
            return x.relu()
    acts.register('late')(Late)
    with pytest.raises(RuntimeError) as e: run(act='late', out=tmp_path, **digits | dict(seeds=[3]))
    assert sys.version_info<(3, 11) or 'seed 3, epoch 1 of 1; finished seeds are kept' in e.value.__notes__[0]
