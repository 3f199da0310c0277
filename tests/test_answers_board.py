"Answers of the board that were wrong without a word: code of authors, tables of numbers, challenges, reviews, hashes"
import json
import numpy as np
import pytest
import torch
from conftest import root
from woofbench import ablate, acts
from woofbench.board.leaderboard import leaderboard
from woofbench.board.record.preds import encode_preds
from woofbench.board.record.part_source import part_shas
from woofbench.board.record.record import Made, Purpose, make_record, write_record
from woofbench.board.record.schema import Hashed, Used
from woofbench.board.record.seeds import challenge_seeds, official_seeds
from woofbench.board.record.strict import plain
from woofbench.board.replications import first_epoch, fresh, replication_status
from woofbench.board.reviews import Review, parse_review
from woofbench.board import table
from woofbench.board.row import Board, Row, epoch_seconds
from woofbench.board.rules import _against
from woofbench.board.stats.claims import P_BEAT, claim, probability
from woofbench.board.standing import incumbent, standing
from woofbench.board.table import find_row
from woofbench.commands.ablate import Ablation
from woofbench.commands.compare import Comparison
from woofbench.commands.request import _beside
from woofbench.commands.reproduce import judge_challenge, original
from woofbench.data.track import make_track
from woofbench.registry import BadInput
from woofbench.train.recipe import config_id, recipes

DIGITS = dict(dataset='digits', epochs=5)
WOOF = dict(dataset='imagewoof', size=128, source='320', epochs=5)
nonce = 'c'*40

def preds(right, n, rng):
    "Predictions of ten classes, `right` of `n` images correct: the first ones, or those that `rng` draws"
    labels = np.arange(n)%10
    order = np.arange(n) if rng is None else np.random.default_rng(rng).permutation(n)
    wrong = np.isin(np.arange(n), order[right:])
    return encode_preds(((labels+wrong)%10).tolist(), labels.tolist(), 10)

def evidence(seed, right, n, epochs, rng, device):
    e = dict(train_loss=1., valid_loss=1., correct=right, train_s=1., eval_s=.1)
    return dict(seed=seed, correct=right, diverged=False, curve=[e]*epochs, preds=preds(right, n, rng),
                init_sha256=f'{seed}', peak_mem_mb=1, device=device)

def made(rights, n=100, seeds=None, cell=DIGITS, rng=None, known=True, sha='a'*64, edition='made up', macs=1,
         day='2026-12-01', device='abacus', purpose=None, curves=None, path=(), **kw):
    "A record with so many right in each seed; `purpose` and `path` hold what else `Purpose` and `Made` take"
    t,r = make_track(**cell),recipes('digits')().but(**kw)
    seeds = official_seeds(config_id(t, r), len(rights)) if seeds=='official' else seeds or range(len(rights))
    def random(i): return None if rng is None else rng*100+i
    runs = [evidence(s, o, n, t.epochs, random(i), device) for i,(s,o) in enumerate(zip(seeds, rights))]
    for i,c in (curves or {}).items(): runs[i]['curve'] = c
    data = dict(edition=edition, known=known, manifest_sha256=sha, n_train=100, n_val=n, twins=0,
                classes=list('0123456789'))
    env = dict(device=device, workers=0, threads=1, cores=1, cuda=None, platform='', python='', versions={}, context='')
    code = dict(version='0', source_sha256='b'*16, commit=None, dirty=None)
    return make_record(t, r, data, runs, Made(code, env, dict(params=1, macs=macs), f'{day}T00:00:00Z', 'fastai',
                       **dict(path)), Purpose(rules=1, **purpose or {}))

def row(*a, review=None, tricks=None, **kw): return Row(made(*a, **kw), review=review, tricks=tricks)


# Code of authors

def own(sha, part='aug mine'): return dict(outside={part:sha*16})

def test_other_code_of_a_part_is_a_difference_and_another_configuration():
    a,b = (row([80,81,82,83,84], path=own(o)) for o in '12')
    c = row([80,81,82,83,84], path=own('2'), lr=.1)
    assert a.differs_from(b)==[('code of aug mine', '1'*16, '2'*16)] and not a.same_config(b)
    with pytest.raises(BadInput, match='code of aug mine'): Ablation(a, (('lr', c),))
    assert Ablation(b, (('lr', c),))

def test_a_part_that_one_row_names_is_in_the_recipe():
    "And a row whose part was merged later is run again without a hash"
    a,b = row([80,81,82,83,84], path=own('1')),row([80,81,82,83,85])
    assert not a.differs_from(b) and a.same_config(b) and b.same_config(a)

def test_other_code_of_a_callback_or_a_file_is_a_difference():
    def of(s, right):
        return row([right,81,82,83,84], path=dict(callbacks=[Used(name='Mine', sha256=s*64, observes=False)],
                                                  imports=[Hashed(name='my', sha256=s*64)]))
    assert [k for k,*_ in of('1', 80).differs_from(of('2', 80))]==['callbacks', 'file my']
    assert not of('1', 80).differs_from(of('1', 79))

def test_a_better_version_of_a_merged_trick_has_a_rank_of_its_own():
    tricks = {('mine', '1'*16):True, ('mine', '2'*16):True}
    kw = dict(n=3929, cell=WOOF, edition='imagewoof2-320', tricks=tricks, seeds='official')
    old = row([3000,3010,2990,3005,2995], path=own('1'), **kw)
    new = row([3200,3210,3190,3205,3195], path=own('2'), day='2026-12-05', **kw)
    same = row([3200,3210,3190,3205,3196], path=own('2'), day='2026-12-06', **kw)
    board = Board([old, new, same])
    assert [standing(o, board) for o in board]==['ranked', 'ranked', f'unranked: the configuration of {new.id}']
    assert incumbent(new.track, board) is new


# Tables of numbers

@pytest.mark.parametrize('reported', [False, True])
def test_every_column_of_the_table_is_words_or_numbers(reported):
    from pandas.api.types import is_numeric_dtype
    df = leaderboard(root, reported)
    words = 'dataset source recipe seeds correct precision engine device date status config_id id'.split()
    assert [k for k in df if not is_numeric_dtype(df[k])]==words
    assert not df[words].isna().any().any() and (df.n>=5).any()
    assert df.dropna(subset='params').sort_values('params').params.is_monotonic_increasing

def test_macs_that_are_not_known_are_nan_and_the_others_are_sorted_as_numbers(tmp_path):
    for i,m in enumerate((900,10_000,None)): write_record(tmp_path, made([80,81,82,83,84], lr=.1*(i+1), macs=m))
    df = leaderboard(tmp_path).sort_values('macs')
    assert df.macs.tolist()[:2]==[900,10_000] and np.isnan(df.macs.iloc[2]) and df.fresh_n.isna().all()


# Challenges and paths

def challenge_of(base, rights, k=5, **kw):
    "The row of a challenge, with other predictions than `base`"
    seeds = challenge_seeds(base.id, nonce, k)
    return row(rights, seeds=seeds, purpose=dict(nonce=nonce, based_on=base.id), **dict(rng=7) | kw)

@pytest.fixture
def folder_cell(registries_stay):
    "The cell of a folder of somebody's own images"
    return dict(dataset='flowers', epochs=5, size=64, source='full', known=False)

def test_a_challenge_is_judged_by_rows_on_the_same_images(folder_cell):
    "Two people may call their folders alike"
    kw = dict(cell=folder_cell, known=False)
    base = row([80,81,82,83,84], sha='1'*64, rng=1, **kw)
    far = row([950,951,952,953,954], n=1000, sha='2'*64, lr=.1, **kw)
    near = row([60,61,62,63,64], sha='1'*64, lr=.1, **kw)
    new = challenge_of(base, [80,81,82,83,84], sha='1'*64, **kw)
    assert judge_challenge(base, new, Board([base, far, new])).why.startswith('there is no other row to beat')
    assert near.id in judge_challenge(base, new, Board([base, far, near, new])).why

def test_a_record_that_is_named_by_its_path_keeps_its_review(tmp_path):
    rec = made([80,81,82,83,84])
    path = write_record(tmp_path, rec)
    (tmp_path/'rulings').mkdir()
    said = dict(record_id=rec.record_id, state='retracted', why='wrong', date='2026-12-10')
    (tmp_path/f'rulings/{rec.record_id}.json').write_text(json.dumps(said))
    assert [find_row(o, tmp_path).status for o in (rec.record_id, path, str(path))]==['unranked: retracted']*3

def test_a_record_that_is_named_by_its_path_keeps_its_tricks(tmp_path, monkeypatch):
    kw = dict(n=3929, cell=WOOF, edition='imagewoof2-320', seeds='official')
    path = write_record(tmp_path, made([3000,3010,2990,3005,2995], path=own('1'), **kw))
    monkeypatch.setattr(table, 'tricks_here', lambda root: {('mine', '1'*16):True})
    assert find_row(path).status=='ranked'


# Replications

def test_fresh_seeds_of_two_challenges_count_once():
    base = row([80,81,82,83,84], rng=1)
    a = challenge_of(base, [78,79,80,81,82])
    same = challenge_of(base, [78,79,80,81,82], device='loom', day='2026-12-02')
    board = Board([base, same, a])
    assert fresh(base, board)==a.acc
    assert replication_status(base, board)=='reproduced by 1, replayed by 1, fresh seeds 80.00 % (n=5)'
    assert replication_status(base, [base, same])=='reproduced by 1, fresh seeds 80.00 % (n=5)'

def test_a_challenge_on_another_machine_is_a_reproduction_of_its_own():
    base = row([80,81,82,83,84], rng=1)
    a,b = (challenge_of(base, [78,79,80,81,82+i], device=o, rng=7+i, day=f'2026-12-0{2+i}')
           for i,o in enumerate(('abacus', 'loom')))
    assert replication_status(base, [base, b, a])=='reproduced by 2, fresh seeds 80.00 % (n=5)'

@pytest.mark.parametrize('loss,word', [(.325,'cannot tell'), (.1,'consistent')])
def test_an_epoch_that_learned_nothing_cannot_tell_with_binary_cross_entropy(loss, word):
    right = 10,11,9,10,12
    curves = {i:[dict(train_loss=loss+d, valid_loss=loss+d, correct=o, train_s=1., eval_s=.1)]*5
              for i,(o,d) in enumerate(zip(right, (.001,0.,.002,-.001,.003)))}
    base = row(right, curves=curves, loss='bce', smooth=0.)
    res = first_epoch(base, 0, dict(train_loss=loss, valid_loss=loss, correct=10))
    assert res.word==word

def test_of_a_loss_that_is_not_known_only_the_count_tells(registries_stay):
    from woofbench import losses
    losses['mine'] = losses['cross_entropy']
    curves = {i:[dict(train_loss=.1+.001*i, valid_loss=.1, correct=10+i, train_s=1., eval_s=.1)]*5 for i in range(5)}
    base = row(range(10, 15), curves=curves, loss='mine')
    res = first_epoch(base, 0, dict(train_loss=.1011, valid_loss=.1, correct=11))
    assert res.word=='cannot tell' and 'it is not known what this loss is' in res.why


# Reviews

bad = 'unranked: contradicted'

@pytest.mark.parametrize('day,word', [('09','practice'), ('10',bad), ('11',bad)])
def test_a_review_answers_contradictions_from_before_its_day(day, word):
    base = row([80,81,82,83,84], review=Review('x', 'audited', 'it holds', '2026-12-10'))
    new = challenge_of(base, [40,41,42,43,44], day=f'2026-12-{day}')
    assert standing(base, [base, new])==word

def test_a_review_answers_the_contradictions_that_it_lists():
    "One that was made before the review and merged after it is not on the list"
    base = row([80,81,82,83,84])
    a,b = (challenge_of(base, [40,41,42,43,44+i], day=f'2026-12-{o}') for i,o in enumerate(('10', '08')))
    said = dict(record_id=base.id, state='audited', why='it holds', date='2026-12-10', answers=[a.id])
    held = Row(base.record, review=parse_review(json.dumps(said).encode(), f'{base.id}.json'))
    assert standing(held, [held, a])=='practice' and standing(held, [held, a, b])=='unranked: contradicted'

@pytest.mark.parametrize('answers', ['0123456789abcdef', ['short'], [1], ['0123456789abcdef\n']])
def test_a_review_lists_ids(answers):
    said = dict(record_id='0'*16, state='audited', why='it holds', date='2026-12-10', answers=answers)
    with pytest.raises(BadInput): parse_review(json.dumps(said).encode(), f'{"0"*16}.json')


# Numbers and sentences

@pytest.mark.parametrize('p,text', [(.79978,'0.799'), (.7951,'0.795'), (.7949,'0.79'), (.8,'0.80'), (.8049,'0.80')])
def test_a_probability_below_the_threshold_is_shown_below_it(p, text):
    assert probability(p)==text and (float(text)>=P_BEAT)==(p>=P_BEAT)

def test_every_sentence_shows_a_probability_that_agrees_with_the_verdict():
    rng,n = np.random.default_rng(60),3929
    pairs = ([[int(o) for o in rng.normal(mean, 25, 5)] for mean in (3040, 3000)] for _ in range(4000))
    a,b = next((a, b) for a,b in pairs if .7955<claim([o/n for o in a], [o/n for o in b])['p_beat']<.7999)
    base,top = row(a, n=n),row(b, n=n, lr=.1)
    new = challenge_of(base, a, n=n)
    said = judge_challenge(base, new, [base, top, new]).why,str(Comparison(base, top))
    assert all('p_beat 0.79' in o and 'p_beat 0.80' not in o for o in said)
    assert _against(base, top)[1].count('p_beat 0.79')==_beside(base, top).count('p_beat 0.79')==1

def test_the_speed_of_growing_images_is_that_of_whole_trainings():
    def curve(k): return [dict(train_loss=1., valid_loss=1., correct=80, train_s=1.+i, eval_s=.1) for i in range(k)]
    whole = row([80]*5, progressive=.5, curves=dict.fromkeys(range(5), curve(5)), rng=1)
    rec = json.loads(json.dumps(plain(whole.record)))
    rec['runs'][4] |= dict(curve=curve(1), diverged=True)
    assert epoch_seconds(Row(rec))==epoch_seconds(whole)==pytest.approx(3.1)
    for r in rec['runs']: r |= dict(curve=curve(1), diverged=True)
    assert epoch_seconds(Row(rec))==pytest.approx(1.1)

def test_what_runs_a_row_again_leads_to_that_row_even_when_a_review_took_it_out():
    base = row([80,81,82,83,84])
    new = challenge_of(base, [78,79,80,81,82])
    for o in (new, Row(new.record, review=Review(new.id, 'retracted', 'wrong', '2026-12-10'))):
        with pytest.raises(BadInput, match=f'^{new.id} is a challenge of {base.id}: reproduce that one$'): original(o)

def test_a_challenge_says_why_nothing_is_known_of_the_noise():
    base,top = row([80]*5, rng=1),row([90]*5, lr=.1)
    new,one = challenge_of(base, [80]*5),challenge_of(base, [80], k=1)
    whys = [judge_challenge(base, o, [base, top, o]).why for o in (new, one)]
    assert 'all seeds of a row have the same accuracy' in whys[0] and 'the noise of one seed' in whys[1]


# Code that is compared as text

PART = """
@acts.register('mine')
def mine(): return relu
"""

def sha_of(*imports, package='', more=PART):
    return part_shas('\n'.join(('from woofbench import acts', *imports, more)).encode(), package)['acts', 'mine']

def test_a_star_import_counts_for_each_part_of_its_file():
    a,b = (f'from {o} import *' for o in ('torch.nn.functional', 'timm.layers'))
    name,own = 'from torch import relu','def relu(): return 1'
    assert len({sha_of(), sha_of(a), sha_of(b), sha_of(a, b), sha_of(b, a)})==5
    assert sha_of(a, name)!=sha_of(name, a) and sha_of(a, own)!=sha_of(own, a)
    assert sha_of(f'if True: {a}')!=sha_of(f'if True: {b}')

def test_a_star_import_is_the_same_in_a_module_of_nbdev():
    a = sha_of('from woofbench.models.layers import *')
    relative = "__all__ = ['mine']\nfrom .. import acts\nfrom ..models.layers import *\n" + PART
    assert part_shas(relative.encode(), 'woofbench.tricks')['acts', 'mine']==a

def test_an_ablation_takes_parts_whose_hash_cannot_be_told(tmp_path, registries_stay):
    "A generator cannot be written down, so each training has another hash of the part; its code is the same"
    numbers = (o for o in range(3))
    @acts.register('with_generator')
    class _WithGenerator(torch.nn.ReLU):
        def forward(self, x): return super().forward(x) if numbers is not None else x
    a = ablate(['lr=.03'], epochs=1, size=16, seeds=2, arch='xresnet10_tiny', widths=(8,8,8,8), act='with_generator',
               device='cpu', out=tmp_path, say=None)
    codes = [o.record.outside['act with_generator'] for o in (a.base, a.rows[0][1])]
    assert codes[0]!=codes[1] and len(a.rows)==1
    with pytest.raises(BadInput, match='code of act with_generator'): Ablation(a.base, a.rows)


# Parts

def test_programs_get_the_parts_of_other_packages_too():
    from woofbench.commands.listing import parts_facts, parts_text
    said = [o.split()[0] for o in parts_text('sched').splitlines()[1:]]
    facts = parts_facts('sched')
    assert {o['name'] for o in facts} <= set(said) <= {n for o in facts for n in (o['name'], *o['also'])}
    assert any(o['name'].startswith('timm:') for o in facts)
