"Two rows side by side: what `compare` says, whichever row you name first, and what the letters of the board say"
import re
import numpy as np
import pytest
from conftest import root
from woofbench.board import row as row_module
from woofbench.board.record.strict import plain
from woofbench.board.row import Row
from woofbench.board.stats.claims import seeds_needed
from woofbench.board.table import _letter, _ties, load_rows
from woofbench.commands.compare import Comparison, compare
from woofbench.registry import BadInput

N = 3929
real = [o for o in load_rows(root)[0] if o.kind=='official' and o.track.size==128]

def rows_of(*counts, rules=(3, 3)):
    "Official rows of one cell with these numbers of correct images; their image noise is that of their predictions"
    res = []
    for o,right,rule in zip(real, counts, rules):
        row = Row(plain(o.record) | dict(rules=rule))
        row.acc = [k/N for k in right]
        row.mean,row.std = np.mean(row.acc),np.std(row.acc, ddof=1)
        assert row.image_noise>.0025
        res.append(row)
    return res

@pytest.fixture(params=[True, False], ids=['band','no band'])
def known(request, monkeypatch):
    "With and without a band of known noise"
    if not request.param: monkeypatch.setattr(row_module, 'band', lambda *_: None)

PAIRS = dict(quiet=([2950,2951,2952,2950,2951], [2945,2946,2944,2945,2946]),
             lucky=([2951,2950,2952,2951,2951], [2941,2940,2942,2941,2941]),
             near=([2900,2920,2890,2910,2905], [2890,2880,2895,2885,2900]),
             far=([3000,3010,2990,3005,2995], [2800,2810,2790,2805,2795]))

@pytest.mark.parametrize('counts', PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize('rules', [(3, 3), (2, 3), (3, 2), (2, 2)])
def test_the_order_of_the_rows_changes_nothing(known, counts, rules):
    a,b = rows_of(*counts, rules=rules)
    there,back = Comparison(a, b),Comparison(b, a)
    mirror = dict(beats='is beaten', better='worse') | {'is beaten':'beats', 'worse':'better'}
    assert back.outcome==mirror.get(there.outcome, there.outcome)
    if there.outcome in mirror: assert there.sentence()==back.sentence()
    assert there.std==back.std

@pytest.mark.parametrize('counts', PAIRS.values(), ids=PAIRS)
def test_rows_with_different_letters_are_no_tie(known, counts):
    rows = rows_of(*counts)
    letters = _ties(rows, {o.id:'ranked' for o in rows})
    if len(set(letters.values()))==2: assert Comparison(*rows).outcome in ('beats','better')
    assert set(letters.values())==({'a','b'} if counts is PAIRS['far'] else {'a'})

@pytest.mark.parametrize('margin', (True, 0, float('nan'), '1'))
def test_a_margin_is_a_number_of_points(margin):
    a,b = real[:2]
    with pytest.raises(BadInput, match='margin must be a number of points above 0'): compare(a, b, margin=margin)

def test_a_tie_counts_the_image_noise(monkeypatch):
    "Seeds that agree better than the finite set of images allows prove no tie within 0.3 points"
    monkeypatch.setattr(row_module, 'band', lambda *_: None)
    rows = rows_of(*PAIRS['lucky'])
    v = Comparison(*rows, margin=.3)
    old = rows_of(*PAIRS['lucky'], rules=(2, 2))
    assert Comparison(*old, margin=.3).outcome in ('ties','better','beats') and v.outcome=='unknown'
    assert v.std>=100*min(o.image_noise for o in rows)>10*Comparison(*old).std
    assert f'the noise is {v.std:.2f} points' in str(v)

def test_the_advice_is_more_seeds_than_now_where_a_claim_fails():
    rng,missed = np.random.default_rng(0),0
    for _ in range(25):
        sd = rng.choice([10, 25, 60], 2)
        a,b = (tuple((3000+lead+rng.normal(0, o, 5)).astype(int)) for lead,o in zip((rng.uniform(20, 120), 0), sd))
        v = Comparison(*rows_of(a, b))
        said = re.search(r'reaches 0.8 with (\d+) seeds', str(v))
        if said and v.outcome not in ('beats','is beaten'):
            assert int(said[1])>5
            missed += 1
        needed = re.search(r'each row needs (\d+) seeds', v.sentence())
        assert not needed or int(needed[1])>5
    assert missed

def test_no_advice_where_the_noise_is_not_known():
    a,b = rows_of([3000]*5, [2900]*5)
    v = Comparison(a, b)
    assert v.sentence().startswith('Nothing can be said') and 'seeds: ' not in str(v)

def test_letters_and_compare_use_the_newer_rules_of_two_rows(monkeypatch):
    "Whichever row is the best one"
    monkeypatch.setattr(row_module, 'band', lambda *_: None)
    counts = PAIRS['quiet']
    for rules,letters in (((2, 2), {'a','b'}), ((2, 3), {'a'}), ((3, 2), {'a'})):
        rows = rows_of(*counts, rules=rules)
        assert set(_ties(rows, {o.id:'ranked' for o in rows}).values())==letters
        assert (Comparison(*rows).outcome in ('beats','better'))==(len(letters)==2)

def test_the_first_row_of_a_letter_is_no_tie_with_the_best_of_the_letter_before(monkeypatch):
    "It may be a tie with another row of that letter"
    monkeypatch.setattr(row_module, 'band', lambda *_: (.0026, 10))
    best,last,first = rows = rows_of(*([m-8,m-4,m,m+4,m+8] for m in (3040, 3022, 3008)), rules=(3, 3, 3))
    assert [*_ties(rows, {o.id:'ranked' for o in rows}).values()]==['a','a','b']
    assert Comparison(best, first).outcome=='beats' and Comparison(last, first).outcome=='ties'

def test_rows_of_unlike_numbers_of_seeds_have_the_same_number_of_votes():
    a,b = rows_of(PAIRS['far'][0], PAIRS['far'][1])
    short = plain(a.record)
    v = Comparison(Row(short | dict(runs=short['runs'][:2])), b)
    assert v.images['votes']==2 and '(of the first 2 seeds of each row)' in str(v)
    assert 'of the first' not in str(Comparison(a, b))

def test_equal_totals_have_no_difference():
    "The two means differ in the last bit"
    v = Comparison(*rows_of([3055,3091,2952,2941,3058], [3048,3098,2952,2941,3058]))
    assert v.a.mean!=v.b.mean
    assert v.claims[0]['diff']==0 and '-0.00' not in v.sentence()
    assert 'there is no difference to look for' in v.sentence()
    assert seeds_needed(1e-16, .01) is None

def test_letters_do_not_end_with_z():
    assert [_letter(o) for o in (1, 26, 27, 52, 53, 702, 703)]==['a','z','aa','az','ba','zz','aaa']
