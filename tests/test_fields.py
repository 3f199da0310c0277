"Which fields of recipes differ, and that a page says what was trained: its commands, costs, speeds, pairs"
import json, shlex
from functools import wraps
import pytest
from conftest import root
from pulls import Dogs
from woofbench.board.row import Row, columns
from woofbench.board.rules import one_field_apart
from woofbench.board.table import load_rows
from woofbench.commands.prepare import given
from woofbench.commands.run import run
from woofbench.data.augment import augs
from woofbench.models.costs import cost
from woofbench.models.parts import attns, stems
from woofbench.models.spec import XResNetSpec
from woofbench.registry import BadInput, Param
from woofbench.train.callbacks import mean_area, share_of_sides
from woofbench.train.changes import changed, label_of, neighbours
from woofbench.train.recipe import Recipe, hash_without, recipes, settings
from woofbench.web.build import build
from woofbench.web.cells import amount, numbers
from woofbench.web.effects import pairs_of, parts_by_trick
from woofbench.web.export import command, python
from woofbench.web.facts import from_rows, read_board

official = recipes('official')().but(arch='xresnet10_tiny')

def alone(a, b):
    "The fields in which two recipes differ alone"
    theirs = hash_without(b)
    return [k for k,o in hash_without(a).items() if theirs.get(k)==o and settings(a)[k]!=settings(b)[k]]

def entries(*changes, **more):
    "Rows of one cell with these changes of the recipe"
    dogs = Dogs()
    return from_rows([Row(dogs.entry(.7, created=f'2026-11-{i+1:02}T00:00:00Z', **o)|more)
                      for i,o in enumerate(changes)], []).entries


# Settings

def test_settings_have_the_parameters_of_both():
    r = official.but(stem='whitening_signs', stem_eps=.1, opt='muon', opt_ks=1)
    assert settings(r)['stem_eps']==.1 and settings(r)['opt_ks']==1 and 'params' not in settings(r)

@pytest.mark.parametrize('kw,field', [(dict(stem='whitening_signs'), 'stem'), (dict(opt='muon'), 'opt'),
    (dict(block='drop_path', block_rate=.3), 'block'), (dict(lr=.02), 'lr'), (dict(sa='simple_sa'), 'sa')], ids=str)
def test_a_part_with_its_parameters_is_one_change(kw, field):
    assert alone(official, official.but(**kw))==[field]
    assert alone(official.but(wd=.1), official.but(**kw))==[]

def test_a_parameter_is_a_change_of_its_own():
    r = official.but(opt='muon')
    assert alone(r, r.but(opt_ks=1))==['opt_ks'] and alone(r, r.but(opt_ks=1, opt_steps=4))==[]
    a,b = Recipe().but(arch='hlb'),Recipe().but(arch='hlb', arch_width=32)
    assert alone(a, b)==['arch_width'] and 'name' in alone(a, Recipe().but(arch='timm:resnet18'))

def test_a_parameter_that_names_a_part_is_one_field():
    "The optimiser of the remaining weights, without its rate and momentum"
    r = official.but(opt='muon')
    assert alone(r, r.but(opt_rest='radam'))==['opt_rest']
    assert alone(r, r.but(opt_rest='radam', opt_rest_rate=1., opt_rest_mom=.5))==[]

def test_two_slots_of_one_kind(registries_stay):
    "Self-attention is one change only where the attention in the blocks keeps its parameters"
    @attns.register('sl', params=dict(slope=Param(.1, 'A slope', 0, 1)))
    def sl(nf, act, *, slope): return act()
    a,b = official.but(attn='sl'),official.but(attn='sl', attn_slope=.9)
    assert alone(a, a.but(sa='simple_sa'))==['sa'] and alone(a, b.but(sa='simple_sa'))==[]
    assert alone(official, b)==['attn']

def test_a_stem_has_no_parameter_with_the_name_of_a_field():
    taken = {k.removeprefix('stem_') for k in XResNetSpec.__dataclass_fields__ if k.startswith('stem_')}
    assert taken=={*stems.taken}
    with pytest.raises(BadInput, match="stem 'mine' cannot have a parameter 'act': stem_act is a field"):
        stems.register('mine', params=dict(act=Param('relu', 'An activation')))(lambda spec, *, act: [])
    assert 'mine' not in stems


# Parts that take the place of others

def test_a_new_part_begins_with_its_own_defaults():
    r = official.but(aug='rand')
    new = neighbours(r, 'aug=trivial')['aug=trivial']
    assert dict(new.params)==dict(official.but(aug='trivial').params)!=dict(r.params)
    kept = official.but(aug='rand', aug_strength=.2, opt='muon', opt_ks=1, stem='whitening_signs', stem_eps=.1)
    assert kept.but(lr=.02, act='relu').params==kept.params and kept.but(act='relu').model.params==kept.model.params

def test_a_label_makes_the_recipe_again(registries_stay):
    "Also where a part of yours has another default, or a value that the old part had"
    for name,default in (('one', .3), ('two', 1.)):
        augs.register(name, params=dict(strength=Param(default, 'How much', 0, 1)))(lambda r, *, strength: None)
    found = [official.but(aug=a, **kw) for a in ('one','two','rand','trivial') for kw in ({}, dict(aug_strength=.3),
                                                                                        dict(aug_strength=.25))]
    found += [official.but(aug='none'), official.but(aug='rand', opt='muon', opt_ks=1)]
    for a in found:
        for b in found:
            if a!=b: assert changed(a, label_of(a, b))==b, label_of(a, b)
    assert label_of(official.but(aug='rand'), official.but(aug='trivial'))=='aug=trivial'

def test_a_label_says_what_a_part_that_stays_in_one_stage_has():
    a = official.but(block='drop_path', block_rate=.3)
    for b in (official.but(block=('drop_path','res','res','res')),
              official.but(block=('drop_path','res','res','res'), block_rate=.3),
              recipes('official')().but(arch='channel_net', stem='whitening_signs')):
        for base in (a, official.but(stem='whitening_signs', stem_eps=.5)):
            assert changed(base, label_of(base, b))==b, label_of(base, b)

def test_labels_between_presets():
    found = [recipes(o)() for o in recipes]
    for a in found:
        for b in found:
            if a!=b: assert changed(a, label_of(a, b))==b, label_of(a, b)

def test_none_for_a_part_is_refused_where_it_has_two_meanings():
    assert given(dict(lr=None, act='mish'))==dict(act='mish')
    with pytest.raises(BadInput, match="sa=None is not clear: write sa='none'"): run('digits', sa=None, say=None)

def test_a_number_of_a_library_may_have_a_fraction():
    "PyTorch writes `dampening: float = 0`; a whole value stays as it was, and so its hash"
    r = Recipe().but(opt='torch:SGD', opt_dampening=.5)
    assert dict(r.params)['opt_dampening']==.5
    values = [dict(Recipe().but(opt='torch:SGD', **o).params)['opt_dampening'] for o in ({}, dict(opt_dampening=0.))]
    assert values==[0,0] and all(type(o) is int for o in values)
    for o in (float('inf'), float('nan')):
        with pytest.raises(BadInput, match='opt_dampening must be a number'): r.but(opt_dampening=o)


# A page says what was trained

ODD = (dict(stem='whitening_signs', stem_eps=.1), dict(block='drop_path', block_rate=.3), dict(aug='mix', aug_alpha=.3),
       dict(loss='bce', smooth=.3), dict(opt='muon', opt_ks=1, opt_lookahead=True), dict(stem_pool='none'),
       dict(opt='torch:SGD', opt_nesterov=True), dict(opt='timm:lion'),
       dict(sched='timm:cosine', sched_warmup_epochs=2),
       dict(sched='torch:PolynomialLR'), dict(attn=('se','se','none','none')), dict(normalize=False))

@pytest.fixture(scope='module')
def odd(): return entries(*ODD)

def test_python_trains_the_same_recipe(odd):
    for e in odd:
        _,call = python(e).split('row = ')
        kw = eval(call.replace('run(', 'dict(dataset=', 1))
        changes = {k:v for k,v in given(kw).items() if k not in ('dataset','size','epochs','source','noise','official')}
        assert recipes('official')().but(**changes)==e.recipe, python(e)

def test_the_command_trains_the_same_recipe(odd, monkeypatch):
    from woofbench.commands.cli import main
    seen = []
    @wraps(run)
    def f(**kw): raise ZeroDivisionError(seen.append(kw))
    monkeypatch.setattr('woofbench.commands.run.run', f)
    for e in odd:
        words = shlex.split(command(e).replace('\\\n', ' '))
        with pytest.raises(ZeroDivisionError): main(words[1:])
        no = ('dataset','size','epochs','source','noise','official','say')
        assert recipes('official')().but(**{k:v for k,v in seen[-1].items() if k not in no})==e.recipe, words

def test_the_cost_counts_small_images_as_small():
    e,plain = entries(dict(progressive=.5), {})
    sides = share_of_sides(128, .5)
    exact = sum(n*cost(e.recipe.model, side)['macs'] for side,n in sides.items())*9025*5
    assert e.cost==pytest.approx(exact, rel=.01) and e.cost==pytest.approx(plain.cost*mean_area(128, .5))
    assert mean_area(128, 1.)==1

def test_speeds_of_pages_are_those_of_the_board():
    mine = {o.id:o for o in load_rows(root)[0]}
    for e in read_board(root).entries:
        assert tuple(f'{o:.0f}' for o in e.speed)==tuple(columns[k](mine[e.id]) for k in ('train_img_s','eval_img_s'))

def test_pages_of_a_row_whose_costs_are_unknown():
    b = from_rows([Row(Dogs().entry(.7) | dict(cost=dict(params=5, macs=None))), Row(Dogs(1).entry(.7, lr=.02))], [])
    files = build(b)
    e = next(o for o in b.entries if o.macs is None)
    page = files[f'rows/{e.id}.html'].decode()
    assert '<dd>unknown</dd>' in page and 'One training run' not in page
    assert json.loads(files[f'rows/{e.id}.json'])['train_macs'] is None
    assert any(b' & -- ' in v for k,v in files.items() if k.endswith('.tex'))


def test_a_new_part_is_one_difference():
    from woofbench.web.rows import _changed
    a,b = entries({}, dict(stem='whitening_signs', lr=.02))
    assert _changed(b, a).split('; ')==['stem conv3 → whitening_signs','lr 0.01 → 0.02']
    assert _changed(a, b).split('; ')==['stem whitening_signs → conv3','lr 0.02 → 0.01']

def test_unknown_costs_are_a_dash():
    "In the texts that all tables show, those that the script draws too"
    e, = entries({}, cost=dict(params=1000, macs=None))
    assert amount(None)==numbers(e)['macs']=='–'

# Pairs

def test_pairs_are_those_of_the_check():
    "In a group of which most rows have the same optimiser, none is lost"
    muons = [dict(opt='muon', opt_ks=a, opt_steps=b) for a in (1,2,3,4) for b in (1,2,3,4,5)]
    es = entries(*muons, dict(opt='adam'))
    rows = [e.row for e in es]
    slow = {(k, frozenset((e.id, o.id))) for e in es for o,k in one_field_apart(e.row, rows)}
    found = {(p.field, frozenset((p.a.id, p.b.id))) for p in pairs_of(from_rows(rows, []))}
    assert found==slow and sum(k=='opt' for k,_ in found)==20

def test_the_value_of_the_baseline_comes_first():
    b = from_rows([e.row for e in entries(dict(bs=32), dict(bs=128), dict(opt='muon', opt_ks=1), dict(opt='muon'))], [])
    found = {(p.field, p.old, p.new) for p in pairs_of(b)}
    assert ('bs', 32, 128) in found and ('opt_ks', 3, 1) in found

def test_initialisations_are_parts_of_tricks(): assert ('init','dirac') in parts_by_trick()['dirac']
