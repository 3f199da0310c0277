"""Whose code a row was made with: names that cannot be replaced, sources that are seen when they change, records
that stay readable"""
import importlib.util, json, shutil, sys

from functools import partial, wraps
import pytest
import torch
from torch import nn
from conftest import root
from woofbench import run
from woofbench.models.costs import cost
from woofbench.board.audit_flags import counted
from woofbench.board.row import Row
from woofbench.board.table import load_rows
from woofbench.train.optim import opts, scheds
from woofbench.models.parts import acts, slots
from woofbench.board.record.own_parts import doubts, missing, ours, outside, strangers
from woofbench.board.record.loaded_code import is_library, source_of
from woofbench.train.recipe import Recipe, config_id, from_dict, recipes, to_dict
from woofbench.board.record.record import check_record, record_id, record_path, to_bytes
from woofbench.board.record.strict import plain
from woofbench.registry import BadInput
from woofbench.board.rules import judge
from woofbench.data.track import Track, datasets
from woofbench.models.spec import XResNetSpec, arch, archs, change

digits = recipes('digits')()
kinds = [*slots.values(), archs, recipes, opts, scheds, datasets]
registry = pytest.mark.parametrize('reg', kinds, ids=lambda o: o.kind)

@pytest.fixture(autouse=True)
def tidy():
    "Parts that a test registers are gone after it"
    before = [set(o) for o in kinds]
    yield
    for reg,names in zip(kinds, before):
        for o in set(reg)-names: del reg[o]

def mine(reg):
    "A part that `reg` would take, by its form"
    def part(*args, **kw): return nn.ReLU()
    return dict(archs['xresnet18']) if reg is archs else part

def module(tmp_path, name, text):
    "The module that a file with `text` makes"
    path = tmp_path/f'{name}.py'
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    m = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    return m


# Names

@registry
def test_a_name_of_the_package_cannot_be_replaced(reg):
    name,other,part = *list(reg)[:2],mine(reg)
    before,aliases = dict(reg),dict(reg.aliases)
    def items(): reg[name] = part
    def merge():
        nonlocal reg
        reg |= {name:part}
    ways = [items, merge, lambda: reg.register(name)(part), lambda: reg.update({name:part}),
            lambda: reg.setdefault(name, part), lambda: reg.alias(name, other),
            lambda: reg.register('mine', name)(part),
            lambda: reg.pop(name), lambda: reg.__delitem__(name), reg.popitem, reg.clear]
    for a in list(reg.aliases)[:1]:
        new = next(o for o in reg if o!=reg.aliases[a])
        ways += [lambda a=a: reg.register(a)(part), lambda a=a: reg.register('mine', a)(part), lambda a=a,
                 new=new: reg.alias(a, new), lambda a=a, new=new: reg.aliases.__setitem__(a, new),
                 lambda a=a: reg.__setitem__(a, part)]
    ways += [lambda p=p: reg.provide(p, lambda name: part, list)
             for p in reg.providers] + [lambda p=p: reg.register(f'{p}:x')(part) for p in reg.providers]
    for i,f in enumerate(ways):
        with pytest.raises(BadInput) as e: f()
        assert len(str(e.value).splitlines())==1 and any(o in str(e.value) for o in ('another name', 'use ')), (i,
                str(e.value))
    assert dict(reg)==before and dict(reg.aliases)==aliases

def test_a_function_of_the_same_name_is_another_part():
    def adam(r): return None
    adam.__qualname__,adam.__module__ = 'adam','woofbench.train.optim'
    with pytest.raises(BadInput, match='choose another name'): opts.register('adam')(adam)

def test_the_cell_of_your_own_part_may_run_again():
    def cell(k):
        @opts.register('mine', 'My')
        def mine(r): return k
    cell(1)
    cell(2)
    assert opts('My')(None)==2
    with pytest.raises(BadInput, match='choose another name'): opts.register('mine')(lambda r: 3)
    with pytest.raises(BadInput, match='choose another name'): opts.register('other', 'My')(lambda r: 3)
    opts.alias('Mein', 'mine')
    assert opts.canon('Mein')=='mine' and ours(opts, 'sgd')
    opts.alias('descent', 'sgd')
    assert ours(opts, 'sgd'), 'your alias makes it no part of yours'

def test_a_copy_of_a_lesson_leaves_the_package_s_part_in_place(tmp_path):
    from woofbench.tricks import simple_sa
    was = slots['attn']['simple_sa']
    module(tmp_path, 'a_lesson', (root/'woofbench/tricks/simple_sa.py').read_text().replace('from ..',
            'from woofbench.'))
    assert slots['attn']['simple_sa'] is was and ours(slots['attn'], 'simple_sa') and simple_sa

def test_what_is_no_arch_is_refused_where_it_is_registered():
    for part,why in (('xresnet', 'is str'), (nn.Linear, 'is type'), (dict(depth=3), 'did you mean depths'),
                     (dict(depths=(1,)), 'does not say widths')):
        with pytest.raises(BadInput, match=why): archs.register('x')(part)
    for name in ('none', 'a b', 'a:b', '', 3):
        with pytest.raises(BadInput, match='is not a name'): acts.register(name)(nn.ReLU)


# Whose it is

@registry
def test_all_parts_of_the_package_are_its_own(reg):
    assert [o for o in reg if not reg.packaged(o)]==[]
    if reg not in (archs, recipes, datasets): assert [o for o in reg if not ours(reg, o)]==[]
    assert [o for p,(_,names) in reg.providers.items() for o in names()[::20] if not ours(reg, f'{p}:{o}')]==[]

def test_a_module_whose_name_begins_with_ours_is_not_ours(tmp_path):
    module(tmp_path, 'woofbench_extra', """
from woofbench.train.optim import opts, scheds
from woofbench.models.parts import acts
from torch import nn
class Act(nn.ReLU): pass
acts.register('extra')(Act)
scheds.register('extra')(lambda learn, epochs, r: learn.fit(epochs, r.lr))
opts.register('extra')(lambda r: opts['adam'](r))
""")
    found = outside(digits.but(act='extra', opt='extra', sched='extra'))
    assert sorted(found)==['act extra', 'opt extra', 'sched extra']

def _decorated(f):
    @wraps(f)
    def g(*args, **kw): return f(*args, **kw)
    return g

class Own(nn.Module):
    def forward(self, x): return x

class Named(nn.ReLU): __module__ = 'woofbench.tricks.mish'

class Called:
    def __call__(self): return nn.ReLU()

@pytest.mark.parametrize('part',
                         (nn.SiLU, Own, Named, Called(), partial(acts['mish']), _decorated(acts['relu']), acts['relu'],
                          partial(nn.LeakyReLU, .2), lambda: nn.ReLU()))
@pytest.mark.parametrize('how', ('item', 'register', 'behind the back'))
def test_the_code_counts_and_not_its_name(part, how):
    if how=='item': acts['mine'] = part
    if how=='register': acts.register('mine')(part)
    if how=='behind the back': dict.__setitem__(acts, 'mine', part)
    assert list(outside(digits.but(act='mine')))==['act mine']

def test_a_part_put_in_place_of_ours_by_force_is_seen():
    was = opts['adam']
    try:
        for part in (lambda r: None, _decorated(was), Own, torch.optim.Adam):
            dict.__setitem__(opts, 'adam', part)
            assert list(outside(digits.but(opt='adam')))==['opt adam']
    finally: dict.__setitem__(opts, 'adam', was)
    assert outside(digits.but(opt='adam'))=={}

def test_providers_models_of_timm_and_shapes(tmp_path):
    acts.provide('mine', lambda name: nn.SiLU if name=='silu' else None, lambda: ['silu'])
    assert list(outside(digits.but(act='mine:silu')))==['act mine:silu']
    module(tmp_path, 'my_models', """
from timm.models import register_model
__all__ = []
@register_model
def woof_test_net(pretrained=False, **kw):
    from timm.models.resnet import resnet18
    return resnet18(pretrained, **kw)
""")
    assert list(outside(Recipe().but(arch='timm:woof_test_net')))==['arch timm:woof_test_net']
    assert outside(Recipe().but(arch='timm:resnet18'))==outside(Recipe().but(arch='selecsls84'))=={}
    arch('narrow', 'a shape of mine', depths=(1,1,1,1), widths=(16,16,16,16))
    assert list(outside(Recipe().but(arch='narrow')))==['arch narrow']
    assert str(Recipe().but(arch='narrow')).startswith('custom'), 'the text of a record depends on this package alone'


# When it has changed

FILE = """
from functools import partial, lru_cache
from torch import nn
import {name}_helpers as helpers
POWER = 2
def helper(x): return deeper(x)
def deeper(x): return x**POWER
class Base(nn.Module):
    slope = .1
    def twice(self, x): return 2*x
class Part(Base):
    "A class"
    def forward(self, x): return self.twice(helper(x))*self.slope
def closed(k):
    def f(r, k2=3, *, k3=4): return k+k2+k3
    return f
def far(r): return helpers.far(r)
def late(r):
    from {name}_helpers import far
    return far(r)
@lru_cache
def kept(r): return helper(r)
parts = dict(part=Part, made=Part(), closed=closed(1), partial=partial(helper, 3), far=far, late=late, kept=kept,
             bound=Part().twice, named=lambda r: Part)
"""
seen = dict(part=('x**POWER', 'x**3'), made=('POWER = 2', 'POWER = 3'), closed=('closed(1)', 'closed(2)'),
            partial=('partial(helper, 3)', 'partial(helper, 4)'), far=('+ 1', '+ 2'), late=('+ 1', '+ 2'),
            kept=('x**POWER', 'x**3'),
            bound=('2*x', '3*x'), named=('slope = .1', 'slope = .2'))
more = (('part', '2*x', '3*x'), ('part', 'slope = .1', 'slope = .2'), ('closed', 'k2=3', 'k2=5'),
        ('closed', 'k3=4', 'k3=5'), ('made', 'return deeper(x)', 'return -deeper(x)'))

def _source(tmp_path, k, old='', new=''):
    "Of part `k` of the file, with `old` changed to `new`"
    for name,text in (('woof_file_helpers', 'def far(x): return near(x)\ndef near(x): return x + 1\n'),
                      ('woof_file', FILE.format(name='woof_file'))):
        m = module(tmp_path, name, text.replace(old, new) if old else text)
    return source_of(m.parts[k])

@pytest.mark.parametrize('k,old,new', [(k, *v) for k,v in seen.items()] + list(more))
def test_a_changed_source_is_another_source(tmp_path, k, old, new):
    base = _source(tmp_path, k)
    assert base==_source(tmp_path, k)==_source(tmp_path, k, 'POWER = 2',
                                               '# a comment\nPOWER = 2'), 'the same code has one hash'
    assert _source(tmp_path, k, old, new)!=base

def test_any_part_of_a_library_has_one_source():
    for o in (nn.SiLU, torch.relu, torch.nn.functional.relu, len, nn.Linear(2, 2), torch.optim.AdamW):
        assert source_of(o)==source_of(o), o
    with open(__file__) as f:
        assert source_of(lambda: f)!=source_of(lambda: f), 'what cannot be written down is never the same twice'


def test_a_library_is_one_wherever_it_is(tmp_path, monkeypatch):
    "Torch from another environment, or from `pip install --target`: its code is not the user's"
    for folder in ('env/lib/python3/site-packages', 'debian/dist-packages', 'target', 'editable'):
        path = tmp_path/folder/f'lib_{folder[:3]}'/'__init__.py'
        path.parent.mkdir(parents=True)
        path.write_text('import logging\nlog = logging.getLogger()\ndef f(x): return log and x\n')
        monkeypatch.syspath_prepend(str(tmp_path/folder))
    info = tmp_path/'target'/'lib_tar-1.0.dist-info'
    info.mkdir()
    (info/'METADATA').write_text('Name: lib_tar\nVersion: 1.0\n')
    (info/'RECORD').write_text('lib_tar/__init__.py,sha256=0,9\n')
    assert [is_library(f'lib_{o}') for o in ('env', 'deb', 'tar', 'edi')]==[True, True, True, False]

HOLDS = """
import logging, threading
from torch import nn
{made}
class Part(nn.Module):
    "ReLU"
    def forward(self, x): return x.relu() if held else x
"""

@pytest.mark.parametrize('made,says', (
    ('held = logging.getLogger("a.b"); held.addHandler(logging.StreamHandler())', ''),
    ('held = [threading.Lock(), threading.RLock(), threading.Condition()]', ''),
    ('held = open(__file__)', 'cannot be hashed (it holds an object of type TextIOWrapper): a stopped'),
    ('held = [nn.Linear(2, 2)]', 'holds weights, which have another hash each time if its file makes them at random')))
def test_what_a_part_holds_has_one_hash_or_is_named(tmp_path, made, says):
    parts = [module(tmp_path, f'woof_{k}', HOLDS.format(made=made)).Part for k in 'ab']
    if not says: assert source_of(module(tmp_path, 'woof_a', HOLDS.format(made=made)).Part)==source_of(parts[0])
    acts['holds'] = parts[1]
    said = doubts(digits.but(act='holds'))
    assert (says in said[0] and 'act holds' in said[0]) if says else said==[]

def test_a_changed_optimiser_or_schedule_is_trained_again(tmp_path):
    said,space = [],dict(__name__='a_notebook')
    text = """
from woofbench.train.optim import opts, scheds
def factor(): return 1
@opts.register('my_adam')
def my_adam(r):
    from functools import partial
    from fastai.optimizer import Adam
    return partial(Adam, mom=r.mom*factor())
@scheds.register('my_flat')
def my_flat(learn, epochs, r): learn.fit(epochs, r.lr)
"""
    def row():
        said.clear()
        return run('digits', size=16, epochs=1, seeds=1, out=tmp_path, opt='my_adam', sched='my_flat', say=said.append)
    def there(): return any('there already' in o for o in said)
    exec(text, space)
    first = row()
    assert first.record['code'][
            'dirty'] is True and first.status.startswith('unranked: ') and any('opt my_adam, sched my_flat' in o
                    for o in said)
    assert row().id==first.id and there()
    exec(text, space)
    assert row().id==first.id and there(), 'the same cell once more'
    for old,new in (('return 1', 'return .9'), ('epochs, r.lr', 'epochs, r.lr/2')):
        exec(text.replace(old, new), space)
        assert row().id!=first.id and not there()


# Records

@pytest.fixture
def rec():
    path = next((root/'records/digits').rglob('*.json'))
    return json.loads(path.read_text())

def doctored(rec, own=None, model=None, cost=None, dirty=False):
    "A record with other names or costs, and the ids that follow"
    new = json.loads(json.dumps(plain(rec)))
    new['recipe'] |= own or {}
    new['recipe']['model'] = model if model and 'kind' in model else new['recipe']['model'] | (model or {})
    new['cost'] |= cost or {}
    new['code']['dirty'] = dirty
    new['config_id'] = config_id(Track(**new['track']), from_dict(new['recipe']))
    return new | dict(record_id=record_id(new))

unknown = dict(opt=dict(own=dict(opt='lion')), sched=dict(own=dict(sched='wave')), act=dict(model=dict(act='swish9')),
               provided=dict(model=dict(act='their:silu')), dashed=dict(model=dict(pool='my-pool')),
               timm=dict(model=dict(kind='timm', name='net_of_tomorrow')),
               both=dict(own=dict(opt='lion', sched='wave')))

@pytest.mark.parametrize('k', unknown)
@pytest.mark.parametrize('dirty', (True, False))
def test_a_record_with_unknown_names_is_read_and_has_no_rank(rec, tmp_path, cli, k, dirty):
    new = doctored(rec, **unknown[k], dirty=dirty)
    check_record(new)
    path = tmp_path/record_path(new)
    path.parent.mkdir(parents=True)
    path.write_bytes(to_bytes(new))
    shutil.copy(root/record_path(rec), path.parent)
    (row,bad),name = load_rows(tmp_path),next(iter(strangers(new['recipe'])))
    row = next(o for o in row if o.id==new['record_id'])
    assert not bad and name in missing(new['recipe']) and name.split()[1] in str(row.recipe)
    assert row.status==('unranked: changed code' if dirty
                        else f'unranked: {", ".join(strangers(new["recipe"]))} not in this package')
    assert judge(new, [row]).word in ('valid', 'needs audit')
    for line in ('board', 'check', f'compare {row.id[:8]} {rec["record_id"][:8]}'):
        rc,out,err = cli(f'{line} {tmp_path}' if line=='check' else f'{line} --out {tmp_path}')
        assert rc==0 or line=='check' and rc==3 and 'needs audit' in out, (line, out, err)
    rc,_,err = cli(f'reproduce {row.id} --out {tmp_path}')
    assert rc==2 and f'needs {name}' in err and len(err.splitlines())==1

def test_a_rank_needs_parts_of_this_package(rec):
    base = Row(doctored(rec))
    assert base.status=='practice' and strangers(base.record['recipe'])==[]
    opts['lion'] = lambda r: None
    assert Row(doctored(rec, own=dict(
            opt='lion'))).status=='unranked: opt lion not in this package', 'whatever is registered here'
    assert from_dict(to_dict(digits))==digits

def test_a_part_that_cannot_be_counted_trains_and_its_macs_are_unknown(rec, tmp_path, cli):
    @acts.register('picky')
    class Picky(nn.Module):
        "ReLU that does not let itself be counted"
        def forward(self, x):
            if torch.utils._python_dispatch._get_current_dispatch_mode(): raise RuntimeError('no counter')
            return x.relu()
    said = []
    row = run('digits', size=16, epochs=1, seeds=1, out=tmp_path, act='picky', say=said.append)
    assert plain(row.record.cost)==dict(params=cost(change(XResNetSpec(), 'xresnet10_tiny'), 32)['params'], macs=None)
    assert any('unknown GMACs' in o for o in said) and load_rows(tmp_path)[1]==[]
    assert judge(row.record, []).word=='valid' and Row(row.record).line()['macs'] is None
    rc,out,_ = cli(f'board --check --out {tmp_path}')
    assert rc==0 and '| unknown |' in out and cli(f'check {tmp_path}')[0]==0
    del acts['picky']
    counted.cache_clear() # as on another machine
    assert cli(f'board --check --out {tmp_path}')[0]==0 and 'cannot be counted here' in str(judge(row.record, []))
    said = doctored(row.record, cost=dict(params=310370), model=dict(act='mish'))
    assert 'macs is None, and counted here 543488' in str(judge(said, [])) # a number that is there to be had
    for cost_ in (dict(params=None), dict(macs='1')):
        with pytest.raises(BadInput, match='record.cost.(params|macs): Expected int'):
            check_record(doctored(row.record, cost=cost_))
    # the first schema has a number
    with pytest.raises(BadInput, match='macs'): check_record(doctored(rec, cost=dict(macs=None)))


# Names that are nearly right

@pytest.mark.parametrize('line,hint',
                         (('runn', 'did you mean run?'), ('bord', 'did you mean board?'),
                          ('leaderboard', 'did you mean board?'), ('run --act gelu', 'timm:gelu'),
                          ('run --act GELU', 'timm:gelu'),
    ('run --device gpu', 'did you mean cuda?'), ('run --device GPU', 'did you mean cuda?'),
    ('run --device cud', 'did you mean cuda'), ('cost --device gpu', 'did you mean cuda?'),
    ('run --engine fats', 'did you mean fast'),
    ('run --precision bf-16', 'did you mean bf16'), ('run --precision FP16', 'fp16'),
    ('cost --precision half', 'there is bf16, fp16, fp32'), ('run --recipe offical', 'did you mean official'),
    ('run --arch resnet18', 'timm:resnet18'),
    ('run --dataset imagewof', 'did you mean imagewoof'), ('run --opt Rangr', 'did you mean ranger?'),
    ('run --sched flatcos', 'did you mean flat_cos'), ('run --akt mish', 'did you mean --act'),
    ('run --arch timm:resnet18.a1_in1k', 'leave the tag out: timm:resnet18'), ('run --attn eca', 'timm:eca'),
    ('parts gelu', 'timm:gelu'), ('parts mihs', 'did you mean mish'), ('parts blok', 'block'),
    ('run --arch xresnet81', 'did you mean xresnet18')))
def test_a_near_name_is_suggested(refused, line, hint): assert hint in refused(line)

@pytest.mark.parametrize('name',
                         ('acts', 'act', 'Acts', 'activations', 'activation', 'sa', 'stem_act', 'archs', 'optimizers',
                          'schedules', 'presets', 'attentions', 'datasets'))
def test_parts_takes_the_words_people_have_for_a_kind(cli, name):
    rc,out,_ = cli(f'parts {name}')
    assert rc==0 and 'of a part' not in out and out


class Reads(nn.Module):
    "Reads the rows of an image one after another"
    def __init__(self, n_out, size):
        super().__init__()
        self.lstm,self.head = nn.LSTM(3*size, 8, batch_first=True),nn.Linear(8, n_out)
    def forward(self, x): return self.head(self.lstm(x.transpose(1,2).flatten(2))[0][:,-1])

class Compares(nn.Module):
    "Multiplies the mean of each channel with that of each other one"
    def __init__(self, n_out, size):
        super().__init__()
        self.head = nn.Bilinear(3, 3, n_out)
    def forward(self, x): return self.head(x.mean((2,3)), x.mean((2,3)))

@pytest.mark.parametrize('net,macs', ((Reads, 32*4*8*(3*32+8) + 8*10), (Compares, None)))
def test_an_operation_that_hides_products_is_counted_in_its_parts_or_unknown(net, macs):
    archs['reads_rows'] = lambda n_out, size: net(n_out, size)
    assert cost(change(XResNetSpec(), 'reads_rows'), 32)['macs']==macs

# Sizes and widths

@pytest.mark.parametrize('line,hint',
                         (('cost --arch timm:halonet26t --size 128', 'cannot take 128 px images; 256 px would suit it'),
                          ('cost --arch timm:bat_resnext26ts --size 128', '256 px would suit it'),
    ('cost --arch xresnet10_tiny --widths 8,16,32,64 --attn se', '16 channels or more'),
    ('cost --arch xresnet18 --pool max_blur --size 65', '64 or '),
    ('cost --arch xresnet18 --groups 7', 'this network cannot be built (ValueError: in_channels must be divisible'),
    ('run --arch xresnet10_tiny --widths 8,16,32,64 --attn se', '16 channels or more')))
def test_what_does_not_fit_says_what_does(refused, line, hint): assert hint in refused(line)

@pytest.mark.parametrize('fault',
                         (AssertionError(), AssertionError('one\ntwo'), RuntimeError(''), KeyError('k'),
                          NotImplementedError(), ZeroDivisionError('by zero'), AttributeError('x'), IndexError()),
                          ids=lambda o: type(o).__name__)
@pytest.mark.parametrize('where', ('build', 'forward'))
def test_any_fault_of_a_part_is_one_line(fault, where):
    class Faulty(nn.Module):
        def __init__(self):
            super().__init__()
            if where=='build': raise fault
        def forward(self, x): raise fault
    acts['faulty'] = Faulty
    with pytest.raises(BadInput, match='this network fails in line .* of test_provenance') as e:
        cost(change(XResNetSpec(), 'xresnet10_tiny', act='faulty'), 32)
    assert len(str(e.value).splitlines())==1 and type(fault).__name__ in str(e.value)
